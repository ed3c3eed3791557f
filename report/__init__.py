"""Orderings, intervals and figures, from a dataframe alone.

`read` turns CSV files into one frame, and everything else takes that frame: `scores`, `table`, `at_thresholds` and
`order` compute; `curves`, `Live`, `heatmap`, `over_epochs`, `rank_agreement` and `critical_difference` draw; `save`,
`latex` and `Album` write; `power` says beforehand how many networks it takes, `settled` and `settling` how far they
have come; `posterior` says what is probable, `comparisons` (drawn by `comparison_matrix`) what a pair says by itself,
`profiles` (`performance_profiles`) how scores are distributed over tasks, and `settled_pairs` draws what is settled;
`dependence` says whether orders depend on a choice, of which `choices` lists those there are, and `regret`
(`plot_regret`) how far measures are from an oracle line, of which `oracles_in` lists those there are. `read_agreement`,
`agreement_with`, `plot_agreement_with` and `agreement_matrix` are for the agreement of the scores themselves;
`read_sequential`, `best_strengths`, `reproduced`, `compare_best`, `strength_curves`, `accuracy_matrices`,
`stability_trace` and `instability` for sequential learning; `read_fine_tuning`, `read_importances`, `frontier`,
`at_equal_new`, `not_finite`, `importance_by_layer_kind`, `plot_frontiers`, `perplexity_over_steps`, `meter_trace` and
`importance_spread` for fine-tuning a language model; and what is in `retraining` (`read`, `summary`, `plot`) for
training on after removal. Nothing here knows how a number was measured, only what its column is called.

One wing a study (`grid`, `sequential`, `fine_tuning`, `agreement`, `retraining`), none of which imports another, over
shared rooms: `tables` reads, `statistics` tests, `drawing` draws. Every figure takes rows or finished numbers, and
`ax`: one Axes, or an array with one for each of its panels, to draw into instead of a figure of its own.
"""

import warnings

from report import retraining
from report.agreement import agreement_matrix, agreement_with, plot_agreement_with, read_agreement
from report.drawing.album import Album, save
from report.drawing.latex import latex
from report.drawing.style import style
from report.fine_tuning.figures import importance_spread, meter_trace, perplexity_over_steps, plot_frontiers
from report.fine_tuning.results import (
    at_equal_new,
    frontier,
    importance_by_layer_kind,
    not_finite,
    read_fine_tuning,
    read_importances,
)
from report.grid.answers import Answers
from report.grid.comparing import comparisons, posterior, profiles
from report.grid.comparison_figures import (
    comparison_matrices,
    comparison_matrix,
    performance_profiles,
    settled_pairs,
)
from report.grid.curves import curve_means, curves
from report.grid.dependence import Dependence, choices, dependence
from report.grid.figures import (
    critical_difference,
    epoch_means,
    heatmap,
    moves,
    over_epochs,
    placings,
    rank_agreement,
    rank_correlation,
    setting_means,
)
from report.grid.live import Live
from report.grid.ordering import Ordering, order, settled
from report.grid.regret import Regrets, plot_regret, regret
from report.grid.scores import scores
from report.grid.sentences import power
from report.grid.settling import settling
from report.grid.tables import at_thresholds, table
from report.panel import Panel
from report.sequential.figures import accuracy_matrices, instability, stability_trace, strength_curves
from report.sequential.results import best_strengths, compare_best, read_sequential, reproduced
from report.tables.columns import last_checkpoint, measures_in, oracles_in, runs
from report.tables.excerpt import Excerpt
from report.tables.reading import read, read_apart

__all__ = [
    "Album",
    "Answers",
    "Dependence",
    "Excerpt",
    "Live",
    "Ordering",
    "Panel",
    "Regrets",
    "accuracy_matrices",
    "agreement_matrix",
    "agreement_with",
    "at_equal_new",
    "at_thresholds",
    "best_strengths",
    "choices",
    "compare_best",
    "comparison_matrices",
    "comparison_matrix",
    "comparisons",
    "critical_difference",
    "curve_means",
    "curves",
    "dependence",
    "epoch_means",
    "frontier",
    "heatmap",
    "importance_by_layer_kind",
    "importance_spread",
    "instability",
    "last_checkpoint",
    "latex",
    "measures_in",
    "meter_trace",
    "moves",
    "not_finite",
    "oracles_in",
    "order",
    "over_epochs",
    "performance_profiles",
    "perplexity_over_steps",
    "placings",
    "plot_agreement_with",
    "plot_frontiers",
    "plot_regret",
    "posterior",
    "power",
    "profiles",
    "rank_agreement",
    "rank_correlation",
    "read",
    "read_agreement",
    "read_apart",
    "read_fine_tuning",
    "read_importances",
    "read_sequential",
    "regret",
    "reproduced",
    "retraining",
    "runs",
    "save",
    "scores",
    "setting_means",
    "settled",
    "settled_pairs",
    "settling",
    "stability_trace",
    "strength_curves",
    "style",
    "table",
]

RENAMED = {
    "against": "agreement_with",
    "agreement": "rank_agreement",
    "alike": "agreement_matrix",
    "among": "measures_in",
    "at": "at_thresholds",
    "frontiers": "plot_frontiers",
    "last": "last_checkpoint",
    "spread": "importance_by_layer_kind",
    "truth": "plot_agreement_with",
}
"""Names of the version before; they go with the next."""

globals().pop("agreement")  # the wing, which importing it put here: until the next version it is the name of a figure


def __getattr__(name):
    if name not in RENAMED:
        raise AttributeError(f"module 'report' has no attribute {name!r}")
    new = RENAMED[name]
    warnings.warn(f"report.{name} is called report.{new} now; the old name goes with the next version.",
                  DeprecationWarning, stacklevel=2)  # fmt: skip
    return globals()[new]
