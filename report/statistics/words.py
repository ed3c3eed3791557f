"""Numbers in words."""


def p_value(p):
    """Write a p-value: three decimals, or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(number, kind):
    """Write a number of things, as in "1 network" or "20 networks"."""
    return f"{number} {kind.removesuffix('s') if number == 1 else kind}"
