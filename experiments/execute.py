"""Run a notebook without a browser, with parameters, and keep it with its outputs.

`python -m experiments.execute main.ipynb runs/main.ipynb -y '{thresholds: 26}'`: parameters that the notebook does not
have stop it before anything runs. A log gets what its cells print and, once a minute, how far it is. An error is a
sentence on the last line, without the frames above it, which the executed notebook keeps.
"""

import argparse
import contextlib
import logging
import os
import pathlib
import sys

import papermill

from experiments import parameters, progress

_A_SENTENCE = {
    "ValueError", "OSError", "FileNotFoundError", "PermissionError", "ConnectionError", "ImportError",
    "ModuleNotFoundError", "RuntimeError", "Busy", "Lost", "Interrupted",
}  # fmt: skip
"""The errors by which this project says what was expected, what arrived, and what to do."""


def main(arguments):
    """Run a notebook.

    Returns:
        int. The exit status: 0; 2 where parameters or settings are wrong; 130 after an interrupt; 1 of other errors.
    """
    parser = argparse.ArgumentParser(
        "python -m experiments.execute", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook")
    parser.add_argument("executed", help="where to keep it with its outputs")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "TEXT"), help="one parameter")
    parser.add_argument("-y", action="append", default=[], metavar="YAML", help="several: {epochs: 5, fill: zero}")
    parser.add_argument("--log", help="a file that gets what cells print and a line a minute; without it, a bar")
    asked = parser.parse_args(arguments)
    try:
        given = {name: value for text in asked.y for name, value in parameters.read(text).items()} | dict(asked.p)
        parameters.check_names(given, parameters.names(asked.notebook))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    pathlib.Path(asked.executed).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        log = None
        if asked.log:
            print(f"Running; watch with: tail -f '{asked.log}'", flush=True)
            log = stack.enter_context(open(asked.log, "a", encoding="utf-8"))
            os.environ[progress.LOG] = os.path.abspath(asked.log)
        status, said = _run(asked.notebook, asked.executed, given, log)
        if said:
            print(said, file=sys.stderr)
            print(said, file=log or open(os.devnull, "w"))
    return status


def _run(notebook, executed, given, log):
    """Return the exit status, and what there is to say."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of comments in which it finds no parameters
    try:
        papermill.execute_notebook(
            notebook, executed, given, stdout_file=log, stderr_file=log,
            progress_bar=log is None and sys.stderr.isatty(), extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )  # fmt: skip
    except KeyboardInterrupt:
        return 130, "Interrupted; what was computed is kept. To go on, run the same command again."
    except papermill.PapermillExecutionError as error:
        if error.ename in _A_SENTENCE:
            return (2 if error.ename == "ValueError" else 1), f"{error.evalue} ({executed} has where it came from)"
        return 1, f"{error}\n{error.ename}: {error.evalue}"
    return 0, ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
