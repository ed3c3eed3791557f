"""How far a run is, shown where somebody looks, and what is said when it is interrupted.

A terminal gets a bar. A notebook gets one line for each cell that runs, plain text, which is as true when the notebook
is opened again. A log, that is standard error that is no terminal, or the file that the environment variable
WEIGHTWISE_LOG names, gets a line a minute.
"""

import contextlib
import datetime
import math
import os
import sys
import time
import uuid

from tqdm import tqdm

LOG = "WEIGHTWISE_LOG"
_SECONDS = 60


class Interrupted(KeyboardInterrupt):
    """A run was interrupted. It ends what is running, as any interrupt does, and is shown as one sentence.

    Args:
        kept: int. How much of what was asked for is there.
        unit: str. What is counted: "cell".
    """

    def __init__(self, kept, unit):
        again = "run this cell again" if _kernel() else "run it again"
        super().__init__(f"Interrupted; {kept:,} {unit}s are kept. To go on, {again}.")
        if sys.excepthook is not _excepthook:
            _hooks.append(sys.excepthook)
            sys.excepthook = _excepthook

    def _render_traceback_(self):  # what IPython shows in place of all frames
        return [str(self)]


class Progress:
    """What is shown of a run.

    Args:
        total: int. How many there are to be done.
        unit: str. What they are: "cell".
        shown: bool. Whether anything is.
    """

    def __init__(self, total, unit, shown=True):
        self.done, self.total, self._unit, self._what = 0, total, unit, ""
        self._started = self._told = time.monotonic()
        screen = (_Display() if _kernel() else sys.stderr if sys.stderr.isatty() else None) if shown else None
        self._log = shown and (os.environ.get(LOG) or screen is None)
        bar = {"desc": f"{unit}s", "unit": unit, "file": screen, "disable": screen is None}
        self._bar = tqdm(total=total, **bar, miniters=0, mininterval=0.5)

    def at(self, what):
        """Show what is being done: str."""
        self._what = what
        self._bar.set_postfix_str(what, refresh=False)
        self.to(self.done)

    def expect(self, total):
        """Say how many there are to be done, which may turn out to be more while a run goes on."""
        self.total = self._bar.total = total

    def to(self, done):
        """Show that so many are done."""
        self.total = self._bar.total = max(self.total, done)
        self._bar.update(done - self.done)
        self.done = done
        self._tell()

    def close(self):
        """Show how far it came, and nothing more."""
        self._bar.close()
        self._tell(at_once=True)

    def _tell(self, at_once=False):
        now = time.monotonic()
        if self._log and (at_once or now - self._told >= _SECONDS):
            self._told = now
            _write_line(self._log, f"{datetime.datetime.now():%d %b %H:%M} {self._sentence(now)}")

    def _sentence(self, now):
        rate = 60 * self.done / (now - self._started)
        parts = [f"{self.done:,} of {self.total:,} {self._unit}s", f"{rate:,.1f} a minute"]
        if self.done < self.total:
            parts.append(f"{_time((self.total - self.done) / rate)} left" if rate else "time left unknown")
            parts += [f"now at {self._what}"] if self._what else []
        return ", ".join(parts)


class _Display:
    """A file whose last line is an output of the notebook's cell: the same output for all that a cell shows so."""

    encoding = "utf-8"
    _cell, _handle = None, None

    def write(self, text):
        line = text.rpartition("\r")[2].strip()
        if not line:
            return
        from IPython import get_ipython
        from IPython.display import display

        cell, content = get_ipython().execution_count, {"text/plain": line}
        if _Display._cell == cell:
            _Display._handle.update(content, raw=True)
        else:
            _Display._cell, _Display._handle = cell, display(content, raw=True, display_id=uuid.uuid4().hex)

    def flush(self):
        pass


def _kernel():
    """Say whether this is a notebook's kernel, where what is displayed can be seen."""
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        return getattr(get_ipython(), "kernel", None) is not None
    return False


def _time(minutes):
    hours, minutes = divmod(math.ceil(minutes), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _write_line(log, line):
    if log is True:
        print(line, file=sys.stderr, flush=True)
    else:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


_hooks = []


def _excepthook(kind, error, traceback):
    if issubclass(kind, Interrupted):
        print(error, file=sys.stderr)
        sys.exit(130)  # what a shell gives an interrupt; Python would give 1 for a subclass
    else:
        _hooks[-1](kind, error, traceback)
