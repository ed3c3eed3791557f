"""Orderings, intervals and figures, from a dataframe alone.

`read` turns CSV files into one frame, and everything else takes that frame: `scores`, `table`, `at` and `order`
compute; `curves`, `Live`, `heatmap`, `over_epochs`, `agreement` and `critical_difference` draw; `save` and `latex`
write. Nothing here knows how a number was measured, only what its column is called.
"""

from report.drawing import curves
from report.figures import agreement, critical_difference, heatmap, over_epochs
from report.live import Live
from report.ordering import Ordering, order
from report.reading import read
from report.saving import save
from report.scoring import scores
from report.style import style
from report.tabulating import at, latex, table

__all__ = [
    "Live",
    "Ordering",
    "agreement",
    "at",
    "critical_difference",
    "curves",
    "heatmap",
    "latex",
    "order",
    "over_epochs",
    "read",
    "save",
    "scores",
    "style",
    "table",
]
