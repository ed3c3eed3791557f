"""Write figures and tables to files."""

import pathlib

from report.drawing.latex import latex
from report.tables.excerpt import Excerpt


class Album:
    """Keep the figures and tables of a notebook, if a folder is named.

    Args:
        folder: str, Path or None. None keeps nothing.

    Example:
        >>> keep = report.Album("figures")                   # doctest: +SKIP
        >>> keep("curves", report.curves(frame))             # doctest: +SKIP
    """

    def __init__(self, folder=None):
        self.folder = None if folder is None else pathlib.Path(folder)

    def __call__(self, name, figure):
        """Write a figure as `<folder>/<name>.png` and `.pdf`; return it, so that the notebook shows it."""
        if self.folder is not None:
            save(figure, self.folder / name)
        return figure

    def table(self, name, frame, **options):
        """Write a table as `<folder>/<name>.tex`; return an `Excerpt` of it, with these options, for a notebook."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{name}.tex").write_text(latex(frame), encoding="utf-8")
        return Excerpt(frame, **options)


def save(figure, path_stem, formats=("png", "pdf")):
    """Write a figure once for each format.

    Args:
        figure: Figure, as every drawing function of `report` returns it.
        path_stem: str or Path. The file's name without its ending; its folder is made if it is not there.
        formats: list of str. "png", "pdf", "svg" and what else Matplotlib knows.

    Returns:
        list of Path, the files written.

    Raises:
        ValueError: the formats are one word (a list is needed), or Matplotlib does not know one.
    """
    if isinstance(formats, str):
        raise ValueError(f"Expected a list of formats, received the text {formats!r}. Write [{formats!r}].")
    known = figure.canvas.get_supported_filetypes()
    unknown = [name for name in formats if name not in known]
    if unknown:
        raise ValueError(f"Expected formats among {', '.join(sorted(known))}, received {', '.join(unknown)}.")
    stem = pathlib.Path(path_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{name}") for name in formats]
    for file in files:
        figure.savefig(file, dpi=200, bbox_inches="tight")  # as notebooks show it: a title may be wider than its figure
    return files
