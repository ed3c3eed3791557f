"""How figures look: one colour, line and marker a measure everywhere, safe for colour-blind readers and in print."""

import functools
import zlib

INK = {
    "black": "#000000",
    "grey": "#7F7F7F",
    "blue": "#0072B2",
    "sky": "#56B4E9",
    "green": "#009E73",
    "orange": "#E69F00",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "wine": "#882255",
    "olive": "#999933",
}
"""Okabe and Ito's colours without yellow (too pale for a line), with grey and two of Paul Tol's."""

DASHES = {"solid": "-", "dashed": (0, (5, 2)), "dotted": (0, (1.2, 1.5)), "dashdot": (0, (6, 2, 1.2, 2))}

MARKERS = "osD^vP*X<>ph"

STYLES = {
    "random": ("grey", "dashed", "X"),
    "magnitude": ("blue", "solid", "o"),
    "inverse_magnitude": ("sky", "dashed", "v"),
    "net_displacement": ("olive", "dashdot", "<"),
    "weight_change": ("orange", "solid", "s"),
    "weight_stability": ("purple", "dashdot", "D"),
    "sign_stability": ("green", "solid", "P"),
    "direction_stability": ("wine", "dashed", "^"),
    "synaptic_intelligence": ("vermillion", "dashed", "*"),
    "fisher_empirical": ("black", "solid", "h"),
    "fisher": ("black", "dashed", "o"),
    "fisher_sampled": ("black", "dotted", "s"),
    "fisher_argmax": ("black", "dashdot", "v"),
    "fisher_batched": ("grey", "solid", "^"),
    "mas": ("blue", "dashed", "D"),
    "rwalk": ("vermillion", "solid", ">"),
    "taylor": ("green", "dashed", "o"),
    "snip": ("green", "dotted", "v"),
    "obd": ("wine", "solid", "s"),
    "hessian": ("wine", "dotted", "D"),
    "signal": ("sky", "solid", "P"),
    "wanda": ("sky", "dotted", "o"),
    "adam_second_moment": ("purple", "solid", "<"),
    "deletion": ("orange", "dashed", "X"),
    "uniform": ("olive", "dotted", "p"),
}
"""Colour, line and marker of the known measures; no two agree in all three."""

GREY = {"color": "#C8C8C8", "linestyle": "-", "marker": "", "linewidth": 0.7, "zorder": 1.5}
"""The look of measures that are there for comparison alone."""

OTHERS = "grey: the other measures"
"""What a title says where some lines have that look."""

RULES = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
}


def style(measure):
    """Return a measure's line style: a function of its name alone, so that it is the same in every figure.

    Args:
        measure: str. A name that is not in `STYLES` gets colour, line and marker by a checksum of its letters.

    Returns:
        dict of keyword arguments for `Axes.plot`.

    Example:
        >>> style("magnitude")["color"]
        '#0072B2'
    """
    colour, dash, marker = STYLES.get(measure) or _by_checksum(str(measure))
    return {"color": INK[colour], "linestyle": DASHES[dash], "marker": marker}


def _by_checksum(name):
    number = zlib.crc32(name.encode())
    number, colour = divmod(number, len(INK))
    number, dash = divmod(number, len(DASHES))
    return list(INK)[colour], list(DASHES)[dash], MARKERS[number % len(MARKERS)]


def colours(measures):
    """Return the colours of several measures, as dict of name to colour."""
    return {measure: style(measure)["color"] for measure in measures}


def house_style(draw):
    """Decorate a drawing function so that all it draws has the house's look, and nothing else changes."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        import matplotlib as mpl

        with mpl.rc_context(RULES):
            return draw(*args, **kwargs)

    return styled
