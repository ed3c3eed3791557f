"""The plain versions of what is tested are in tests/reference/."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "reference"))
