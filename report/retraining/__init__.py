"""Retraining after removal: what it gives back, by measure and protocol, and figures."""

from report.retraining.figures import plot
from report.retraining.results import best_rates, read, summary

__all__ = ["best_rates", "plot", "read", "summary"]
