"""Orderings, intervals and figures, from a dataframe alone.

`read` turns CSV files into one frame, and everything else takes that frame: `scores`, `table`, `at` and `order`
compute; `curves`, `Live`, `heatmap`, `over_epochs`, `agreement` and `critical_difference` draw; `save`, `latex` and
`Album` write. `read_agreement`, `against`, `truth` and `alike` are for the agreement of the scores themselves. Nothing
here knows how a number was measured, only what its column is called.
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
from report.style import style
from report.tabulating import at, latex, table

__all__ = [
    "Album",
    "Live",
    "Ordering",
    "against",
    "agreement",
    "alike",
    "among",
    "at",
    "critical_difference",
    "curves",
    "heatmap",
    "last",
    "latex",
    "order",
    "over_epochs",
    "read",
    "read_agreement",
    "runs",
    "save",
    "scores",
    "style",
    "table",
    "truth",
]
