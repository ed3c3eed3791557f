"""Order the measures of results from the command line: `python -m report data/mnist-mlp-*.csv`."""

import sys

import report


def main(paths):
    """Print the mean scores and the ordering of all results in paths, and return the exit status."""
    if not paths:
        print("Expected CSV files, patterns or folders with results, received none: python -m report data")
        return 2
    try:
        frame = report.last_checkpoint(report.read(paths))
    except (FileNotFoundError, ValueError) as error:
        print(error)
        return 1
    scores = report.table(frame)
    columns = [
        name
        for name in ("level", "measure", "networks", "splits", "area", "area_low", "area_high", "tolerance")
        if name in scores
    ]
    for where, part in scores.groupby(["task", "model", "epoch"], dropna=False):
        print(
            "{}, {}, epoch {:g}\n".format(*where) + part[columns].to_string(index=False, float_format="{:.3f}".format)
        )
    print("\n" + report.order(frame).summary)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
