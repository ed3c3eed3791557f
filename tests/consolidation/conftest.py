"""A small classifier, two tasks for it, and importances."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "reference"))

import two_tasks


@pytest.fixture
def setting():
    return two_tasks.Setting()
