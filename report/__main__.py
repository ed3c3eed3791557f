"""Order the measures of results from the command line: `python -m report data/mnist-mlp-*.csv --html report.html`."""

import argparse
import sys

import report
from report.page import write_page


def arguments():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m report",
        description="Order the importance measures of results: scores, orders with tests, and doubts.",
        epilog="python -m report data          python -m report 'runs/digits-*.csv' --html runs/report.html",
    )
    parser.add_argument("paths", nargs="+", help="CSV files, patterns in quotes, or folders with results of grids")
    parser.add_argument("--html", metavar="FILE", help="write one page with figures, tables and settings instead")
    parser.add_argument("--chance-loss", type=float, metavar="NATS", help="for files that do not record it: ln k")
    parser.add_argument("--all", action="store_true", help="all measures in the tables, not the first ten and controls")
    return parser


def main(given):
    """Print the mean scores and the ordering of results, or write a page of them; return the exit status."""
    asked = arguments().parse_args(given)
    try:
        if asked.html:
            print(f"Page: {write_page(asked.paths, asked.html, asked.chance_loss)}")
            return 0
        frame = report.last_checkpoint(report.read(asked.paths, chance_loss=asked.chance_loss))
    except (OSError, ValueError) as error:
        print(error)
        return 1
    scores = report.scores(frame)
    print(report.Excerpt(report.table(scores), most=None if asked.all else 10))
    print("\n" + report.order(scores).summary)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
