"""Numbers in words."""


def p_value(p):
    """Write a p-value: three decimals, or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def e_value(e):
    """Write an e-value: three digits, or "e > 1000"."""
    return "e > 1000" if e > 1000 else f"e = {e:.3g}"


def count(number, kind):
    """Write a number of things, as in "1 network" or "20 networks"."""
    return f"{number} {kind.removesuffix('s') if number == 1 else kind}"


def span(low, high, kind):
    """Write how many there are at least and at most, as in "5 to 30 networks"."""
    return count(high, kind) if low == high else f"{low} to {count(high, kind)}"
