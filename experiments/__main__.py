"""Say how far the runs in some folders are, or list the networks that are kept there."""

import argparse
import sys

import experiments

_EXAMPLES = """\
python -m experiments runs             how far each run is: done, missing, failed, the rate, who is at it
python -m experiments networks runs    the networks that are kept, their sizes, and which studies use them
"""


def main(arguments):
    """Print the status of all runs in some folders, or their networks, and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m experiments", description=__doc__, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="defaults to runs")
    show = _status
    if arguments[:1] == ["networks"]:
        show, arguments = _networks, arguments[1:]
    try:
        for folder in parser.parse_args(arguments).folders or ["runs"]:
            show(folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _status(folder):
    from experiments import until  # which needs what statistics need

    found = experiments.status(folder)
    grids = found["kind"].eq("threshold_grid") & found["state"].ne("cannot be read")
    found["settled"] = [until.told(folder, run) if grid else "" for run, grid in zip(found["run"], grids, strict=True)]
    print(found.to_string(index=False, float_format="{:.1f}".format, na_rep="") if len(found) else "No runs yet.")


def _networks(folder):
    from experiments import networks  # which needs Keras

    found = networks.table(folder)
    if not len(found):
        print("No networks yet.")
        return
    print(found.to_string(index=False, float_format="{:.1f}".format))
    print(
        f"{found.megabytes.sum():,.1f} MB in {folder}/{networks.FOLDER}, {found.of_records.sum():,.1f} of them "
        "records of the training, which a study with records=False does not make. A network whose folder is "
        "removed is trained again when it is asked for."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
