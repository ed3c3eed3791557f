"""The loops of the project, their settings, and the files that hold their results."""

import engine  # noqa: F401, before Keras, whose backend it keeps quiet
from experiments.progress import Interrupted
from experiments.storage.locks import Busy
from experiments.storage.status import status

__all__ = ["Busy", "Interrupted", "status"]
