"""Print the table of the measures as Markdown: `python -m importance > docs/measures.md`."""

import inspect
import re

import importance

_HEAD = """# The measures

Made from the measures' files by `python -m importance > docs/measures.md`. Every measure gives each weight a number of
at least 0, larger means keep; the file of that name in [importance/](../importance) has the whole formula, its
conventions, an example and the reference. `importance.table()` shows the options, too.

| measure | formula, in short | needs | source |
|---|---|---|---|
"""
_NEEDS = {
    "nothing": "the weights", "inputs": "inputs", "labels": "inputs and labels", "trajectory": "a recorded training",
    "optimizer": "the optimizer's state",
}  # fmt: skip


def markdown():
    """Return the table: str."""
    return _HEAD + "".join(map(_row, importance.names()))


def _row(name):
    definition = importance.load(name).definition
    about = inspect.getmodule(definition.score).__doc__ or ""
    first = re.sub(r"\s+", " ", about.partition("\n\n")[0]).strip().rstrip(".")
    needs = _NEEDS.get(definition.needs, definition.needs)
    return f"| `{name}` | {_cell(first)} | {needs} | {_cell(_source(about))} |\n"


def _source(about):
    """Return the first reference of a docstring, or a dash."""
    found = re.search(r"^References:\n(.*?)(?:;\n|\n\n|\Z)", about, flags=re.S | re.M)
    return re.sub(r"\s+", " ", found[1]).strip().rstrip(".;") if found else "-"


def _cell(text):
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


if __name__ == "__main__":
    print(markdown(), end="")
