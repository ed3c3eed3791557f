"""Compile without XLA, which takes longer over these models than training them does."""

import pytest

from engine import structure


@pytest.fixture(autouse=True)
def graphs_without_xla(monkeypatch):
    monkeypatch.setattr(structure, "xla", lambda model: False)
