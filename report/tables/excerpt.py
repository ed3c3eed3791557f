"""Tables as one reads them: what is the same in all rows above, what matters of each group, the rest one call away."""

import html

import pandas as pd

from report.statistics.words import count
from report.tables.columns import CONTROLS, first_and_controls, parts, title

GROUPS = [
    "run", "sequence", "task", "model", "protocol", "old_text", "new_text", "level", "reduction", "scope", "fill",
    "calibration", "repair",
    "epoch", "family",
]  # fmt: skip
"""Columns that say what rows are about: rows that share these are one group."""

OPEN = 3
"""In a notebook, groups after these are folded to a line that names their first rows."""


class Excerpt:
    """What one asks of a table; the whole of it is `.table`.

    Rows are in groups (of a task, model, level, ...). Of each the first ones are shown and, of measures, the controls.
    What is the same in all rows is a caption, and what is the same within a group its heading; an interval stands in
    brackets behind its mean. No text is cut.

    Args:
        table: DataFrame, such as `report.table`, `report.at_thresholds`, or the `table` of `report.order`.
        most: int or None. How many rows of a group to show at first; None: all.
        digits: int. Decimals of numbers that are not whole.
        across: str or None. A column whose values become columns, as "threshold" of `report.at_thresholds`.

    Example:
        >>> print(Excerpt(pd.DataFrame({"task": ["iris"] * 2, "measure": ["obd", "mas"], "area": [0.25, 0.5]})))
        iris
        measure  area
            obd 0.250
            mas 0.500
    """

    def __init__(self, table, most=10, digits=3, across=None):
        self.table = table
        self.most = most
        merged = merge_intervals(table.drop(columns=_empty(table)), digits)
        names = [name for name in GROUPS if name in merged and not (name == "run" and len(merged) < 2)]
        if across is not None:
            merged = _spread(merged, names, across)
        constant = [name for name in names if merged[name].nunique(dropna=False) == 1 and len(merged) > 1]
        self.caption = title(constant, merged[constant].iloc[0]) if constant else ""
        varying = [name for name in names if name not in constant] if len(merged) > 1 else []
        found = list(dict.fromkeys(merged[varying].itertuples(index=False, name=None)))
        varying = varying if len(found) < len(merged) else []  # a group of a single row is none
        split = {tuple(map(str, values)): part for values, part in parts(merged.drop(columns=constant), varying)}
        order = found if varying else [()]
        self.groups = [self._group(varying, values, split[tuple(map(str, values))], digits) for values in order]

    def _group(self, names, values, part, digits):
        """Return (heading, DataFrame of text, how many rows are left out)."""
        part = part.drop(columns=names)
        same = [n for n in part if len(part) > 1 and n in COUNTS and part[n].nunique(dropna=False) == 1]
        counted = [_counted(name, part[name].iloc[0], digits) for name in same]
        rows = part.drop(columns=same)
        rows = rows.drop(columns=_empty(rows))
        shown = rows
        if self.most is not None and "measure" in rows and rows["measure"].is_unique:
            shown = rows[rows["measure"].isin(first_and_controls(rows["measure"], self.most))]
        elif self.most is not None and len(rows) > self.most + len(CONTROLS):
            shown = rows.head(self.most)
        text = shown.map(lambda value: number(value, digits))
        return ", ".join([*filter(None, [title(names, values)]), *counted]), text, len(rows) - len(shown)

    def __str__(self):
        lines = [self.caption] if self.caption else []
        for heading, rows, hidden in self.groups:
            lines += [heading] * bool(heading) + [rows.to_string(index=False)]
            lines += [f"({hidden} more rows)"] * bool(hidden)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self):
        return self.html()

    def html(self, folded=True):
        """Write it as HTML without scripts.

        Args:
            folded: bool. Whether groups after the first three are folded to a line that can be opened.
        """
        hidden = sum(group[2] for group in self.groups)
        above = [f"<p>{html.escape(self.caption)}</p>"] if self.caption else []
        note = f"<p>{hidden} of {len(self.table)} rows are not shown; <code>.table</code> has all.</p>"
        fold = folded and len(self.groups) > OPEN + 1
        shown = [_html(*group, fold and place >= OPEN) for place, group in enumerate(self.groups)]
        return "\n".join([LOOK, *above, *shown, *[note] * bool(hidden)])


KINDS = ["networks", "splits", "blocks", "seeds"]
COUNTS = [*KINDS, "new_perplexity"]
"""Columns that stand in the heading of a group where they are the same in all its rows."""


def _empty(table):
    """List columns that hold nothing."""
    return [name for name in table if len(table) and all(_is_missing(value) or value == "" for value in table[name])]


def _counted(name, value, digits):
    return f"{name} {number(value, digits)}" if name not in KINDS else count(int(value), name)


def _spread(merged, names, across):
    """Turn the values of a column into columns, each with what the last column says there."""
    kept = [name for name in merged if name in names or name == "measure" or name in COUNTS]
    found = merged.pivot_table(
        index=kept, columns=across, values=merged.columns[-1], aggfunc="first", sort=False, dropna=False
    ).dropna(how="all").reset_index()  # fmt: skip
    return found.rename(columns=lambda name: f"{name:g}" if isinstance(name, float) else name).rename_axis(columns=None)


LOOK = (
    "<style>table.excerpt :is(td,th):not(.r){text-align:left!important}table.excerpt td.r{text-align:right}"
    ".excerpt td{white-space:nowrap}.excerpt td.w{white-space:normal;min-width:14em}</style>"
)
"""How cells look: numbers to the right, and only long text wraps."""


def _html(heading, rows, hidden, folded):
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows.itertuples(index=False, name=None)
    )
    head = "".join(f"<th>{html.escape(str(name).replace('_', ' '))}</th>" for name in rows)
    more = f'<tr><td colspan="{max(1, rows.shape[1])}">… {hidden} more</td></tr>' if hidden else ""
    table = f"<table class=excerpt><thead><tr>{head}</tr></thead><tbody>{body}{more}</tbody></table>"
    if folded:
        first = ", ".join(rows["measure"].head(3)) if "measure" in rows else ""
        about = html.escape(heading + (f": {first}, …" if first else ""))
        return f"<details><summary>{about}</summary>{table}</details>"
    return f'<div style="overflow-x:auto"><b>{html.escape(heading)}</b>{table}</div>'


def _cell(value):
    right = value[:1].isdigit() or value[:1] in "-−"
    kind = " class=r" if right else " class=w" if len(value) > 40 else ""
    return f"<td{kind}>{html.escape(value)}</td>"


def merge_intervals(frame, digits):
    """Replace `name`, `name_low` and `name_high` by one column of text, as in "0.31 [0.29, 0.33]"."""
    merged = frame.copy()
    for name in frame.columns:
        ends = [f"{name}_low", f"{name}_high"]
        if set(ends) <= set(frame.columns):
            triples = frame[[name, *ends]].itertuples(index=False)
            merged[name] = [_interval(*triple, digits) for triple in triples]
            merged = merged.drop(columns=ends)
    return merged


def _interval(middle, low, high, digits):
    if pd.isna(low):
        return number(middle, digits)
    return "{} [{}, {}]".format(*(number(value, digits) for value in (middle, low, high)))


def number(value, digits=3):
    """Write what a cell holds: text as it is, whole numbers whole, a missing one as "--"."""
    if isinstance(value, (str, tuple, list)):
        return value if isinstance(value, str) else ", ".join(number(one, digits) for one in value)
    if _is_missing(value):
        return "--"
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "dtype")):
        return str(value)
    if float(value).is_integer():
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    small = 0 < abs(value) < 0.5 * 10**-digits
    return f"{value:.2g}" if small else f"{value:.{digits}f}"


def _is_missing(value):
    return not isinstance(value, (str, tuple, list, dict)) and bool(pd.isna(value))
