"""Axes, matrices, meters and looks that figures share, and how figures and tables are written to files."""
