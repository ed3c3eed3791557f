"""Tests and intervals: pure functions of arrays."""
