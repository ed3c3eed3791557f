"""A small classifier, two tasks for it, and importances."""

import pytest
import two_tasks


@pytest.fixture
def setting():
    return two_tasks.Setting()
