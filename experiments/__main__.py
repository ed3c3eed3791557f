"""Say how far the runs in a folder are, `python -m experiments data`, or list its `networks data`."""

import sys

import experiments


def _settled(folder, run):
    from experiments import until

    return until.told(folder, run)


def main(folders):
    """Print the status of all runs in some folders, or their networks, and return the exit status."""
    if folders[:1] == ["networks"]:
        from experiments import networks

        for folder in folders[1:] or ["data"]:
            found = networks.table(folder)
            if not len(found):
                print("No networks yet.")
                continue
            print(found.to_string(index=False, float_format="{:.1f}".format))
            print(
                f"{found.megabytes.sum():,.1f} MB in {folder}/{networks.FOLDER}, {found.of_records.sum():,.1f} of them "
                "records of the training, which a study with records=False does not make. A network whose folder is "
                "removed is trained again when it is asked for."
            )
        return 0
    for folder in folders or ["data"]:
        try:
            found = experiments.status(folder)
        except FileNotFoundError as error:
            print(error)
            return 1
        grids = found["kind"].eq("threshold_grid") & found["state"].ne("cannot be read")
        found["settled"] = [
            _settled(folder, run) if grid else "" for run, grid in zip(found["run"], grids, strict=True)
        ]
        print(found.to_string(index=False, float_format="{:.1f}".format, na_rep="") if len(found) else "No runs yet.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
