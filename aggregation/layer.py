"""All weights of a layer stand or fall together."""

from engine import structure

LEVEL = structure.layer_labels
