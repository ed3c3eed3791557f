"""An ordering as lines that fit a screen: what is not told apart from its neighbour on one line, doubts below."""

import textwrap

from report.grid.scores import DIRECTIONS, SCORES
from report.grid.sentences import of_any_difference, place, scope
from report.statistics.words import count

WIDTH = 118


def of_group(group, order, signs, test, score, doubts, anytime=False):
    """Lay out one group of an ordering.

    Args:
        group: Group.
        order: list of str. The measures, the best first.
        signs: list of str. What stands between neighbours: " > ", " = ", " ~ " or ", "; one fewer.
        test: dict. The Friedman test; empty where there is none, and then only the doubts are said.
        score: str. What was compared.
        doubts: list of str. Sentences that begin with where they hold, which the heading says for all of them.
        anytime: bool. Whether its verdicts hold whenever one looks.

    Returns:
        list of str, lines of at most 120 characters.
    """
    here = place(group.where)
    lines = [here]
    if test:
        about = f"{here}, by {score} ({DIRECTIONS[SCORES[score]]}), {count(len(group.blocks), group.kind)}"
        lines = [
            *textwrap.wrap(
                f"{about}; {of_any_difference(test, anytime)}; {scope(group)}", WIDTH, subsequent_indent="    "
            )
        ]
        for first, names in equals(order, signs):
            lines += textwrap.wrap(names, WIDTH, initial_indent=f"{first:4d}  ", subsequent_indent=" " * 6)
    for doubt in doubts:
        lines += textwrap.wrap(
            doubt.removeprefix(f"{here}, "), WIDTH, initial_indent="    - ", subsequent_indent=" " * 6
        )
    return lines if len(lines) > 1 or test else []


def equals(order, signs):
    """Split an order where a measure is better than the next.

    Returns:
        list of (place of the first, names joined by their signs).

    Example:
        >>> equals(["obd", "wanda", "mas"], [" > ", " ~ "])
        [(1, 'obd'), (2, 'wanda ~ mas')]
    """
    found = []
    for number, (sign, name) in enumerate(zip([" > ", *signs], order, strict=True), start=1):
        if sign == " > ":
            found.append((number, name))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{sign}{name}")
    return found


def of_method(sentence):
    """Wrap the sentence on how pairs were compared."""
    return textwrap.wrap(sentence, WIDTH)
