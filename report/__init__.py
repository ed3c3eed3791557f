"""Orderings, intervals and figures, from a dataframe alone.

`read` turns CSV files into one frame, and everything else takes that frame: `scores`, `table`, `at` and `order`
compute; `curves`, `Live`, `heatmap`, `over_epochs`, `agreement` and `critical_difference` draw; `save`, `latex` and
`Album` write; `power` says beforehand how many networks it takes, `settled` and `settling` how far they have come.
`read_agreement`, `against`, `truth` and `alike` are
for the agreement of the scores themselves; `read_sequential`, `best_strengths`, `reproduced`, `compare_best`,
`strength_curves`, `accuracy_matrices`, `stability_trace` and `instability` for sequential learning; `read_fine_tuning`,
`read_importances`, `frontier`, `at_equal_new`, `not_finite`, `spread`, `frontiers`, `perplexity_over_steps`,
`meter_trace` and `importance_spread` for fine-tuning a language model. Nothing here knows how a number was measured,
only what its column is called.
"""

from report.agreeing import against, alike, read_agreement, truth
from report.columns import among, last, runs
from report.drawing import curves
from report.figures import agreement, critical_difference, heatmap, over_epochs
from report.fine_tuning import at_equal_new, frontier, not_finite, read_fine_tuning, read_importances, spread
from report.fine_tuning_figures import frontiers, importance_spread, meter_trace, perplexity_over_steps
from report.live import Live
from report.ordering import Ordering, order, settled
from report.reading import read
from report.saving import Album, save
from report.scoring import scores
from report.sequential import best_strengths, compare_best, read_sequential, reproduced
from report.sequential_figures import accuracy_matrices, instability, stability_trace, strength_curves
from report.statistics.settling import settling
from report.style import style
from report.tabulating import at, latex, table
from report.wording import power

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
    "at_equal_new",
    "best_strengths",
    "compare_best",
    "critical_difference",
    "curves",
    "frontier",
    "frontiers",
    "heatmap",
    "importance_spread",
    "instability",
    "last",
    "latex",
    "meter_trace",
    "not_finite",
    "order",
    "over_epochs",
    "perplexity_over_steps",
    "power",
    "read",
    "read_agreement",
    "read_fine_tuning",
    "read_importances",
    "read_sequential",
    "reproduced",
    "runs",
    "save",
    "scores",
    "settled",
    "settling",
    "spread",
    "stability_trace",
    "strength_curves",
    "style",
    "table",
    "truth",
]
