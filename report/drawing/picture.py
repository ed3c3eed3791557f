"""Figures as small pictures, as notebooks and pages hold them."""

import base64
import io

from matplotlib.figure import Figure

COLOURS = 64
"""A figure has few colours; with a palette its file is a quarter as large."""


class Drawing(Figure):
    """A figure that a notebook shows as a small picture, with what it is about as text."""

    def _ipython_display_(self):
        from IPython.display import display

        title = self.get_suptitle() or next((axis.get_title() for axis in self.axes), "")
        about = f"<figure: {' '.join(title.split())}>"
        display({"image/png": base64.b64encode(png(self)).decode(), "text/plain": about}, raw=True)


def png(figure, dpi=92):
    """Draw a figure as a PNG with a palette.

    Args:
        figure: Figure.
        dpi: int. Pixels an inch. What a notebook holds is as small as leaves its smallest letters readable.

    Returns:
        bytes.
    """
    from PIL import Image

    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=dpi, bbox_inches="tight")
    palette = (
        Image.open(whole)
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    )
    palette.save(small, format="png", optimize=True)
    return small.getvalue()
