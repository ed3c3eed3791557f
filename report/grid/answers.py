"""What an ordering answers, in a sentence a setting, with the orders and doubts behind it."""

import html

from report.grid.layout import WIDTH
from report.grid.sentences import place
from report.statistics.intervals import FEW
from report.statistics.words import count
from report.tables.columns import same, title
from report.tables.excerpt import number


class Answers:
    """The answers of an ordering; a notebook shows a sentence a setting, which opens to its order and doubts.

    Args:
        ordering: Ordering, of `report.order`.

    Attributes:
        said: dict of a setting (values of the columns that were ordered apart) to its sentence; those that tests can
            tell something about first.
        differ: bool. Whether measures differ in any setting, so that `report.placings` has something to draw.
    """

    def __init__(self, ordering):
        self.ordering = ordering
        self.names = list(ordering.tests.columns[: ordering.tests.columns.get_loc("blocks")])
        self.said, self.differ = {}, False
        tests = ordering.tests.assign(tested=ordering.told_apart).sort_values("tested", ascending=False, kind="stable")
        for _, test in tests.iterrows():
            places = same(ordering.table, self.names, list(test[self.names]))
            self.said[tuple(test[self.names])] = self._sentence(test, places)
            self.differ |= "rank" in places and places["rank"].nunique() > 1

    def lines(self, values):
        """Return the order and the doubts of one setting: the lines of the summary that are about it."""
        heading = place(dict(zip(self.names, values, strict=True)))
        kept, keep = [], False
        for line in self.ordering.summary.split("\n"):
            if not line.startswith(" "):
                keep = line == heading or line.startswith(f"{heading},")
            kept += [line] * keep
        return kept

    def __str__(self):
        return "\n".join(f"{self._where(values)}: {sentence}" for values, sentence in self.said.items())

    __repr__ = __str__

    def _repr_html_(self):
        rows = []
        for values, sentence in self.said.items():
            lines = html.escape("\n".join(self.lines(values)))
            about = f"<b>{html.escape(self._where(values))}</b>: {html.escape(sentence)}"
            look = f"white-space:pre-wrap;max-width:{WIDTH + 4}ch"
            rows.append(f'<details><summary>{about}</summary><pre style="{look}">{lines}</pre></details>')
        return "".join(rows) + f"<p>{html.escape(self.ordering.sentences[-1])}</p>"

    def _where(self, values):
        return title(self.names, values) or "overall"

    def _sentence(self, test, places):
        score, blocks = self.ordering.score, count(int(test["blocks"]), test["blocks_are"])
        ranked = places[places["rank"].notna()] if "rank" in places else places.head(0)
        if ranked.empty:
            return f"There is nothing to order ({blocks})."
        best, others = ranked.iloc[0], list(ranked["measure"].iloc[1:])
        if others and ranked["rank"].nunique() == 1:
            return f"None: all {len(ranked)} measures score the same ({blocks})."
        area = f"{score.replace('_', ' ')} {number(best[score])}"
        if test["blocks"] >= FEW:
            area += f" [{number(best[f'{score}_low'])}, {number(best[f'{score}_high'])}]"
        said = f"{best['measure']} comes first of {count(len(ranked), 'measures')} ({area}, {blocks})."
        if not test["tested"]:
            return f"{said} There are too few {test['blocks_are']} for a test: this is the order of these."
        pairs = same(self.ordering.pairs, self.names, list(test[self.names]))
        sure = pairs[pairs["verdict"].str.startswith("better")]
        near = [name for name in others if name not in set(sure.loc[sure["better"] == best["measure"], "worse"])]
        said += (
            f" Not told apart from it: {', '.join(near)}." if near else " It is significantly better than every other."
        )
        if "random" in others:
            better = count(int((sure["worse"] == "random").sum()), "measures")
            said += f" Significantly better than random: {better}."
        return said
