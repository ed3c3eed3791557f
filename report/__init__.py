"""Orderings, intervals and figures, from a dataframe alone.

`read` turns CSV files into one frame, and everything else takes that frame: `scores`, `table`, `at` and `order`
compute; `curves`, `Live`, `heatmap`, `over_epochs`, `agreement` and `critical_difference` draw; `save`, `latex` and
`Album` write. `read_agreement`, `against`, `truth` and `alike` are for the agreement of the scores themselves;
`read_sequential`, `best_strengths`, `reproduced`, `compare_best`, `strength_curves`, `accuracy_matrices`,
`stability_trace` and `instability` for sequential learning. Nothing here knows how a number was measured, only what its
column is called.
"""

from report.agreeing import against, alike, read_agreement, truth
from report.columns import among, last, runs
from report.drawing import curves
from report.figures import agreement, critical_difference, heatmap, over_epochs
from report.live import Live
from report.ordering import Ordering, order
from report.reading import read
from report.saving import Album, save
from report.scoring import scores
from report.sequential import best_strengths, compare_best, read_sequential, reproduced
from report.sequential_figures import accuracy_matrices, instability, stability_trace, strength_curves
from report.style import style
from report.tabulating import at, latex, table

__all__ = [
    "Album",
    "Live",
    "Ordering",
    "accuracy_matrices",
    "against",
    "agreement",
    "alike",
    "among",
    "at",
    "best_strengths",
    "compare_best",
    "critical_difference",
    "curves",
    "heatmap",
    "instability",
    "last",
    "latex",
    "order",
    "over_epochs",
    "read",
    "read_agreement",
    "read_sequential",
    "reproduced",
    "runs",
    "save",
    "scores",
    "stability_trace",
    "strength_curves",
    "style",
    "table",
    "truth",
]
