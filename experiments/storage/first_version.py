"""What the settings files of the first version leave unsaid: a run's study, its key, and how much was asked for."""

KEYS = {
    "threshold_grid": ["seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold"],
    "sequential": ["measure", "penalty", "strength", "seed", "after_task", "on_task"],
    "fine_tuning": ["measure", "penalty", "strength", "seed", "step"],
}


def kind(settings):
    """Name the study that settings are of."""
    if "sequence" in settings:
        return "sequential"
    return "fine_tuning" if {"old", "new"} <= settings.keys() else "threshold_grid"


def asked(kind, settings, cells):
    """Count the cells of a run: those of every seed that was asked for or begun, or of every run that was begun."""
    if kind == "sequential":
        begun = {cell[:4] for cell in cells}
        tasks = max((int(cell[4]) for cell in cells), default=0)
        return sum(tasks if run[0] == "joint" else tasks * (tasks + 1) // 2 for run in begun)
    if kind == "fine_tuning":
        return len({cell[:4] for cell in cells}) * (1 + _evaluations(settings["steps"], settings["every"]))
    count = _evaluations(settings["epochs"], settings["every"])
    for name in ("measures", "levels", "reductions", "scopes", "thresholds"):
        count *= len(settings[name])
    return count * len({*map(str, settings["seeds"]), *(cell[0] for cell in cells)})


def _evaluations(length, every):
    return len({*range(every, length + 1, every), length})
