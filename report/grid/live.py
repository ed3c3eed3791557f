"""A figure that refreshes while a grid runs."""

import time
import uuid

from report.drawing.picture import png
from report.grid.curves import curves
from report.grid.ordering import settled
from report.tables.columns import complete, last_checkpoint


class Live:
    """Draw the curves so far into one output of the notebook, over and over.

    Call it with the frame as rows arrive; most calls return at once, for a figure is drawn at most every few seconds
    and never takes more than about a tenth of the time. Drawing is headless and leaves one output, also under
    papermill. Outside a notebook nothing is shown until `close` returns the figure. Above it stands how many pairs of
    measures are settled at the last checkpoint, by evidence that may be looked at at any time (`report.settled`).

    Args:
        seconds: float. Least time between two figures.
        chance_loss: float or None. Chance, which the rows of a running grid do not say.
        chance_accuracy: float or None. Likewise; a loss whose chance comes without it is drawn as a regression's.
        **options: as for `report.curves`.

    Example:
        >>> with report.Live(metric="validation_loss") as live:     # doctest: +SKIP
        ...     threshold_grid.run(..., watch=live)
    """

    def __init__(self, seconds=3.0, chance_loss=None, chance_accuracy=None, **options):
        self.seconds = seconds
        known = {"chance_loss": chance_loss, "chance_accuracy": chance_accuracy}
        self.chance = {name: value for name, value in known.items() if value is not None}
        self.options = options
        self.frame = None
        self.drawn = None
        self._next = 0.0
        self._handle = None

    def __call__(self, frame):
        """Take the rows so far, and refresh the figure if it is time."""
        self.frame = frame.assign(**self.chance)
        if time.monotonic() >= self._next:
            self._refresh()

    def close(self):
        """Show the last rows, whenever the last figure was.

        Returns:
            Figure, or None if no row ever came.
        """
        if self.frame is None or not len(self.frame):
            return None
        return self._refresh()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _refresh(self):
        if not len(self.frame):
            return None
        start = time.monotonic()
        figure = curves(self.frame, **self.options)
        figure.suptitle("\n".join(filter(None, (figure.get_suptitle(), progress(self.frame)))), fontsize=8)
        if in_notebook():
            self._show(figure)
        took = time.monotonic() - start
        self._next = time.monotonic() + max(self.seconds, 10 * took)
        return figure

    def _show(self, figure):
        from IPython.display import Image, display

        image = Image(data=png(figure), format="png")
        if self._handle is None:
            self._handle = display(image, display_id=uuid.uuid4().hex)
        else:
            self._handle.update(image)


def progress(frame):
    """Say how many pairs of measures are settled: a sentence for a running grid."""
    rows = last_checkpoint(complete(frame))
    count, pairs = settled(rows)
    networks = rows["seed"].nunique()
    return f"{count} of {pairs} pairs settled" if pairs else f"{networks} network{'s' * (networks != 1)}: no pairs yet"


def in_notebook():
    """Tell whether output goes to a notebook (Jupyter or papermill) rather than to a terminal."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
