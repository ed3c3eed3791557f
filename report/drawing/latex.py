"""Tables as LaTeX."""

import pandas as pd

from report.tables.excerpt import merge_intervals, number


def latex(frame, digits=3, caption=None, label=None):
    """Write a table as LaTeX, for the `booktabs` package; an interval follows its mean in brackets.

    Args:
        frame: DataFrame, such as `report.table`, `report.at_thresholds` or the `table` or `pairs` of `report.order`.
        digits: int. Decimals of numbers that are not whole.
        caption: str or None.
        label: str or None. Needs a caption to refer to.

    Returns:
        str.
    """
    merged = merge_intervals(frame, digits)
    aligned = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in merged)
    rows = [" & ".join(_escape(number(value, digits)) for value in row) for row in merged.itertuples(index=False)]
    head = " & ".join(_escape(str(name).replace("_", " ")) for name in merged)
    body = [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    body += [rf"{row} \\" for row in rows] + [r"\bottomrule", r"\end{tabular}"]
    if caption is not None:
        named = [rf"\label{{{label}}}"] if label else []
        body = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(caption)}}}", *named, *body, r"\end{table}"]
    return "\n".join(body) + "\n"


def _escape(text):
    r"""Protect what LaTeX would read as a command, as in "weight\_change"."""
    return "".join(_PROTECTED.get(letter, letter) for letter in text)


_PROTECTED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_PROTECTED |= {letter: rf"\{letter}" for letter in "&%$#_{}"} | {"<": r"$<$", ">": r"$>$"}
