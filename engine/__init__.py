"""Compiled numerics that know no research question: evaluation, per-example gradients, training, the backend seam."""

from engine import quiet

quiet.begin()
