"""A small panel for a notebook: choose a setting, a level, a scope, a checkpoint and measures, and see their curves."""

from report.drawing.picture import png
from report.grid.curves import curve_means, curves
from report.tables.columns import CONTROLS, complete, parts, title

SHOWN = ("level", "scope", "epoch")


class Panel:
    """Choices over finished curves; a figure that stands still where there is no kernel or no ipywidgets.

    Nothing is measured or tested anew: the means of a task and model are computed once, when it is first chosen.

    Args:
        frame: DataFrame of `report.read`.
        metric: str. "validation_loss" or "validation_accuracy".

    Example:
        >>> report.Panel(report.read("data"))                    # doctest: +SKIP
    """

    def __init__(self, frame, metric="validation_loss"):
        self.metric = metric
        self.rows = {
            title(["task", "model"], values): rows for values, rows in parts(complete(frame), ["task", "model"])
        }
        self.most = max(self.rows, key=lambda name: len(self.rows[name].drop_duplicates(["run", "seed"])))
        self._means = {}

    def means(self, setting):
        """Return the curves of a task and model: DataFrame of `report.curve_means`."""
        if setting not in self._means:
            means = curve_means(self.rows[setting], self.metric)
            self._means[setting] = means.fillna(dict.fromkeys(("level", "scope"), "unknown"))
        return self._means[setting]

    def options(self, setting):
        """List what there is to choose for a task and model: dict of level, scope, epoch and measure to lists."""
        means = self.means(setting)
        found = {name: [value for (value,), _ in parts(means, [name])] for name in SHOWN}
        return found | {"measure": sorted(set(means["measure"]), key=lambda name: (name in CONTROLS, name))}

    def figure(self, setting=None, measures=None, **chosen):
        """Draw the curves of a choice.

        Args:
            setting: str or None. As in `rows`; None: that with the most networks.
            measures: list of str or None. Those to tell apart; None, or none: the first ten and the controls.
            **chosen: `level`, `scope`, `epoch`; what is not said is the first level and scope, and the last epoch.
        """
        setting = self.most if setting is None else setting
        options = self.options(setting)
        means = self.means(setting)
        for name in SHOWN:
            value = chosen.get(name, options[name][-1 if name == "epoch" else 0])
            means = means[means[name].isna() if value != value else means[name] == value]
        there = [name for name in measures or () if name in set(means["measure"])]
        return curves(means, metric=self.metric, highlight=there or None)

    def widget(self):
        """Return the panel as a widget of ipywidgets.

        Raises:
            ImportError: ipywidgets is not installed.
        """
        import ipywidgets

        setting = ipywidgets.Dropdown(options=list(self.rows), value=self.most, description="task, model")
        boxes = {name: ipywidgets.Dropdown(description=name) for name in SHOWN}
        measures = ipywidgets.SelectMultiple(description="measures", rows=8)
        picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})

        def fill(*_):
            options = self.options(setting.value)
            for name, box in boxes.items():
                before = box.value
                box.options = [(str(value), value) for value in options[name]]
                usual = options[name][-1 if name == "epoch" else 0]
                box.value = before if before in options[name] else usual
            measures.options = options["measure"]

        def draw(*_):
            if any(box.value not in self.options(setting.value)[name] for name, box in boxes.items()):
                return  # the choices are being filled
            chosen = {name: box.value for name, box in boxes.items()}
            picture.value = png(self.figure(setting.value, list(measures.value), **chosen))

        def change(*_):
            fill()
            draw()

        change()
        setting.observe(change, "value")
        for box in (*boxes.values(), measures):
            box.observe(draw, "value")
        return ipywidgets.HBox([ipywidgets.VBox([setting, *boxes.values(), measures]), picture])

    def _repr_mimebundle_(self, include=None, exclude=None):
        still = {"image/png": png(self.figure()), "text/plain": "<Panel: choices need ipywidgets and a kernel>"}
        try:
            return still | self.widget()._repr_mimebundle_()
        except ImportError:
            return still
