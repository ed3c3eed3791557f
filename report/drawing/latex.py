"""Tables as LaTeX."""

import pandas as pd


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
    merged = _merge_intervals(frame, digits)
    aligned = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in merged)
    rows = [" & ".join(_escape(_number(value, digits)) for value in row) for row in merged.itertuples(index=False)]
    head = " & ".join(_escape(str(name).replace("_", " ")) for name in merged)
    body = [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    body += [rf"{row} \\" for row in rows] + [r"\bottomrule", r"\end{tabular}"]
    if caption is not None:
        named = [rf"\label{{{label}}}"] if label else []
        body = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(caption)}}}", *named, *body, r"\end{table}"]
    return "\n".join(body) + "\n"


def _merge_intervals(frame, digits):
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
        return _number(middle, digits)
    return "{} [{}, {}]".format(*(_number(value, digits) for value in (middle, low, high)))


def _number(value, digits):
    if isinstance(value, (str, tuple)):
        return value if isinstance(value, str) else ", ".join(f"{one:g}" for one in value)
    if pd.isna(value):
        return "--"
    return f"{value:g}" if float(value).is_integer() else f"{value:.{digits}f}"


def _escape(text):
    r"""Protect what LaTeX would read as a command, as in "weight\_change"."""
    return "".join(_PROTECTED.get(letter, letter) for letter in text)


_PROTECTED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_PROTECTED |= {letter: rf"\{letter}" for letter in "&%$#_{}"} | {"<": r"$<$", ">": r"$>$"}
