"""Say how far the runs in a folder are: `python -m experiments data`."""

import sys

import experiments


def main(folders):
    """Print the status of all runs in some folders, and return the exit status."""
    for folder in folders or ["data"]:
        try:
            found = experiments.status(folder)
        except FileNotFoundError as error:
            print(error)
            return 1
        print(found.to_string(index=False, float_format="{:.1f}".format, na_rep="") if len(found) else "No runs yet.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
