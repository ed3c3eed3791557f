"""Every weight stands alone."""

from engine import structure

LEVEL = structure.weight_labels
