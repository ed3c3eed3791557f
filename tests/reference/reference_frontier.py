"""The Pareto frontier by comparing every point with every other."""


def dominates(one, other):
    """Say whether a point (new, old) is nowhere worse than another and somewhere better."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def frontier(points):
    """List the points (new, old) that no other dominates, each once, in the order of `new`."""
    return sorted({point for point in points if not any(dominates(other, point) for other in points)})
