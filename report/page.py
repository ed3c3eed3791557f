"""One page with everything that a reader of results needs: a single file, without scripts and without a network."""

import base64
import contextlib
import hashlib
import html
import pathlib
import platform
import re

import pandas as pd

from report.drawing.picture import png
from report.grid.answers import Answers
from report.grid.comparing import comparisons
from report.grid.comparison_figures import comparison_matrices
from report.grid.curves import curves
from report.grid.dependence import dependence
from report.grid.figures import critical_difference, heatmap, placings
from report.grid.ordering import order
from report.grid.regret import plot_regret, regret
from report.grid.scores import FLAGS, scores
from report.grid.tables import table
from report.tables.columns import complete, last_checkpoint, parts, runs, same, title
from report.tables.excerpt import Excerpt
from report.tables.reading import about, read

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 0 auto;
       padding: 1rem; overflow-wrap: anywhere }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } h3 { margin-top: 2rem }
figure { margin: 1rem 0 } figcaption { font-size: .85rem; color: #444 }
img { max-width: 100%; height: auto }
@media screen and (max-width: 700px) { img { max-width: none; width: 640px } }
pre { white-space: pre-wrap; font-size: .8rem; background: #f6f6f6; padding: .6rem }
.wide, .wide > div { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; font-size: .8rem; margin: .3rem 0 1rem }
th { text-align: left }
th, td { padding: .15rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: normal }
nav ul { columns: 2 18rem; padding-left: 1.2rem } a { color: #0a4f8a }
dt { font-weight: 600; margin-top: .6rem } dd { margin-left: 0 }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0 } nav { display: none } a { color: inherit }
  table, pre { font-size: 7.5pt } .wide, .wide > div { overflow: visible }
  h2, h3 { break-after: avoid } figure, tr, dd { break-inside: avoid } img { max-height: 23cm; width: auto }
}
"""


def write_page(paths, file, chance_loss=None):
    """Write the page of results.

    Args:
        paths: str, Path or list of them, as for `report.read`.
        file: str or Path. Where to; its folder is made if it is not there.
        chance_loss: float or None. As for `report.read`.

    Returns:
        Path of the file.
    """
    file = pathlib.Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(read(paths, chance_loss=chance_loss)), encoding="utf-8")
    return file


def page(frame):
    """Write the page of results as text: answers, orderings, tables, curves, settings, versions, digests, caveats.

    Args:
        frame: DataFrame of `report.read`.

    Returns:
        str, HTML.
    """
    frame = last_checkpoint(complete(frame))
    scored = scores(frame)
    ordering = order(scored)
    found = parts(frame, ["task", "model"])
    names = [title(["task", "model"], values) for values, _ in found]
    answers = Answers(ordering)
    sections = [_answers(answers), _choices(scored), _overview(scored, ordering)]
    sections += [_setting(*item, scored, answers) for item in found]
    sections += [_caveats(scored, ordering), _runs(frame), _files(frame)]
    links = "".join(f'<li><a href="#{_anchor(name)}">{html.escape(name)}</a></li>' for name in names)
    below = [("answers", "Answers"), ("overview", "At a glance"), ("caveats", "Caveats"), ("runs", "Runs and settings")]
    links = "".join(f'<li><a href="#{place}">{name}</a></li>' for place, name in below) + links
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Which weights matter? {html.escape('; '.join(names))}</title><style>{STYLE}</style></head><body>",
        "<h1>Which weights of a network matter?</h1>",
        "<p>Importance measures in order: the weights that a measure calls least important are replaced, and the "
        "validation loss is recorded. The area under that curve, between 0 (nothing is lost until everything is "
        "replaced) and 1 (all is lost at once), is the score. One trained network is one block of the tests.</p>",
        f"<nav><ul>{links}</ul></nav>", *sections, "</body></html>\n",
    ])  # fmt: skip


def _answers(answers):
    """Say in a sentence a setting what comes first, and what is better than chance."""
    rows = [(title(answers.names, values), sentence) for values, sentence in answers.said.items()]
    said = "".join(f"<dt>{html.escape(where)}</dt><dd>{html.escape(sentence)}</dd>" for where, sentence in rows)
    return f"<h2 id='answers'>Which measure finds the weights that can go?</h2><dl>{said}</dl>"


def _choices(scored):
    """Say what depends on the choices of the study, and how far measures are from the greedy line, where there is."""
    said, figures = [], []
    for axis in ("calibration", "repair", "fill", "scope"):
        with contextlib.suppress(ValueError):  # there is one value alone, or no network that has several
            said += dependence(scored, axis).sentences
    with contextlib.suppress(ValueError):  # there is no line
        found = regret(scored)
        said += found.sentences
        figures.append(_figure(plot_regret(found), "How much worse measures are than the greedy line."))
    if not said:
        return ""
    listed = "".join(f"<li>{html.escape(sentence)}.</li>" for sentence in said)
    return f"<h2 id='choices'>What does the order depend on?</h2><ul>{listed}</ul>{''.join(figures)}"


def _overview(scored, ordering):
    drawn = [("Mean scores of all measures in all settings.", heatmap, scored)]
    drawn += [("Places in the orders of all settings.", placings, ordering)]
    figures = []
    for says, draw, what in drawn:
        try:
            figures.append(_figure(draw(what), says))
        except ValueError:  # measures do not differ anywhere: there is nothing to see
            continue
    return "<h2 id='overview'>At a glance</h2>" + "".join(figures)


def _setting(values, frame, scored, answers):
    """Write what is known of one task and model."""
    name, where = title(["task", "model"], values), ["task", "model"]
    own, ordering = same(scored, where, values), answers.ordering
    only = dict(zip(where, values, strict=True))
    tests = same(ordering.tests, where, values)
    lines = _unwrapped(line for _, test in tests.iterrows() for line in answers.lines(tuple(test[answers.names])))
    first = ", ".join(own.groupby("measure")["area"].mean().sort_values().index[:5])
    figures = [
        _figure(
            curves(frame), f"Loss against the fraction replaced, {name}. Lowest mean areas over its levels: {first}."
        )
    ]
    if ordering.told_apart[tests.index].any():
        says = f"Mean ranks, {name}: bars join what is not told apart."
        figures.append(_figure(critical_difference(ordering, only), says))
    for where, figure in comparison_matrices(comparisons(own)):
        figures.append(_figure(figure, f"Pairs of measures by themselves, {where}: those with the best means."))
    return (
        f'<h2 id="{_anchor(name)}">{html.escape(name)}</h2>{figures[0]}<h3>Orders</h3><pre>{html.escape(lines)}</pre>'
        f'{"".join(figures[1:])}<h3>Scores</h3><div class="wide">{Excerpt(table(own)).html(folded=False)}</div>'
    )


def _unwrapped(lines):
    """Join lines that were wrapped for a terminal: the page wraps them to the width that there is."""
    return re.sub(r"\n(?: {6}(?=\S)| {4}(?=[^\s-]))", " ", "\n".join(lines))


def _caveats(scored, ordering):
    flags = scored["flags"].str.split("; ").explode()
    rows = [f"<dt>{flag} ({hits} curves)</dt><dd>{html.escape(FLAGS[flag])}</dd>"
            for flag, hits in flags[flags != ""].value_counts().items()]  # fmt: skip
    return (
        "<h2 id='caveats'>Caveats</h2><p>Doubts that concern one setting stand below its orders. Over all curves:</p>"
        f"<dl>{''.join(rows) or '<dt>none is flagged</dt>'}</dl><p>{html.escape(ordering.sentences[-1])}</p>"
    )


def _runs(frame):
    listed = Excerpt(runs(frame).reset_index(), most=None).html(folded=False)
    return f'<h2 id="runs">Runs and settings</h2><div class="wide">{listed}</div>'


def _files(frame):
    """Write settings, versions and digests of every file."""
    found = []
    for file in map(pathlib.Path, sorted(set(frame["source"]) - {""})):
        known = about(file)
        rows = {"SHA-256 of the file": hashlib.sha256(file.read_bytes()).hexdigest()} if file.exists() else {}
        rows |= {name: value for name, value in known.items() if name != "settings"} | (known.get("settings") or {})
        rows = {name: value for name, value in rows.items() if value not in (None, "", [], {})}
        cells = [f"<th>{html.escape(name)}</th><td>{html.escape(_said(value))}</td>" for name, value in rows.items()]
        table = "".join(f"<tr>{cell}</tr>" for cell in cells)
        found.append(f'<h3>{html.escape(file.name)}</h3><div class="wide"><table>{table}</table></div>')
    return "".join(found) + f"<p>Written with Python {platform.python_version()}, pandas {pd.__version__}.</p>"


def _said(value):
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_said(inner)}" for name, inner in value.items())
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)


def _figure(figure, says):
    """Write a figure into the page itself; what it shows in words is its alternative text."""
    data = base64.b64encode(png(figure, dpi=120)).decode()
    text = html.escape(" ".join([says, *figure.get_suptitle().split()]), quote=True)
    below = f"<figcaption>{html.escape(says)}</figcaption>"
    return f'<figure class="wide"><img alt="{text}" src="data:image/png;base64,{data}">{below}</figure>'


def _anchor(name):
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
