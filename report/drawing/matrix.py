"""A matrix as coloured cells with their numbers."""

import numpy as np


def draw_matrix(axis, values, limits, palette, form="{:.2f}", shades=None):
    """Draw a matrix as coloured cells with their numbers; missing ones are dashes on white.

    Args:
        axis: Axes.
        values: DataFrame.
        limits: (float, float). The values at the ends of the palette.
        palette: str. A colormap of Matplotlib.
        form: str. How a number is written.
        shades: DataFrame of the same shape, from 0 to 1, or None. Where a cell's colour lies in the palette, if not its
            value says so.
    """
    import seaborn as sns

    numbers, limits = (values, limits) if shades is None else (shades, (0, 1))
    options = {"vmin": limits[0], "vmax": limits[1], "cmap": palette, "cbar": False, "linewidths": 0.5}
    sns.heatmap(numbers.fillna(np.mean(limits)), mask=numbers.isna(), ax=axis, **options)
    shades = axis.collections[0].cmap((numbers.to_numpy() - limits[0]) / (limits[1] - limits[0]))
    brightness = shades[..., :3] @ [0.299, 0.587, 0.114]
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        text, ink = ("–", "black") if np.isnan(value) else (form.format(value), "white")
        ink = "black" if np.isnan(value) or brightness[row, column] > 0.5 else ink
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=7)
    axis.tick_params(length=0)
    axis.set(xlabel="", ylabel="")
    axis.grid(False)
    axis.set_yticks(np.arange(len(values)) + 0.5, [str(name).replace("\n", " ") for name in values.index], rotation=0)
    tilt = 0 if max(len(line) for name in values.columns for line in str(name).split("\n")) <= 11 else 90
    names = [heading(name) if tilt else name for name in values.columns]
    axis.set_xticks(np.arange(values.shape[1]) + 0.5, names, rotation=tilt)


def heading(name, most=2):
    """Put a name's lines together to so many at most, as there is room for above a column when it is tilted.

    Example:
        >>> heading("mnist\\nmlp\\nweight\\nscope layer")
        'mnist, mlp\\nweight, scope layer'
    """
    lines = str(name).split("\n")
    together = -(-len(lines) // most)
    return "\n".join(", ".join(lines[begin : begin + together]) for begin in range(0, len(lines), together))
