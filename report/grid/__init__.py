"""The threshold grid: scores of its curves, orderings with tests, figures, and a figure while it runs."""
