"""Compile without XLA, which takes longer over these models than training them does."""

import pathlib
import sys

import pytest

from engine import structure

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "reference"))


@pytest.fixture(autouse=True)
def graphs_without_xla(monkeypatch):
    monkeypatch.setattr(structure, "xla", lambda model: False)
