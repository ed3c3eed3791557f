"""The loops of the project, their settings, and the files that hold their results."""

from experiments.progress import status

__all__ = ["status"]
