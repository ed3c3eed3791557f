"""Files that something damaged, in every way that comes to mind: nothing wrong passes in silence, and no error is raw.

Each case ends in the right rows, in a warning that names the file, or in a ValueError or OSError with a sentence; where
writing is refused, the file is left as it is; and whoever reads the folder hears of the other run in it all the same.
"""

import collections
import gzip
import itertools
import json
import random
import shutil
import warnings

import numpy as np
import pytest

import experiments
import report
from engine import backend
from experiments import agreement, threshold_grid
from experiments.storage import files, locks, store, sums
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.store import Store
from report.tables import reading

CELLS = list(itertools.product((0, 1), (2, 4), ("magnitude", "random"), (0.0, 0.5, 1.0)))
ROWS = [
    {
        "run": "run", "task": "iris", "model": "mlp", "seed": seed, "epoch": epoch, "measure": measure,
        "level": "weight", "reduction": "mean", "scope": "layer", "fill": "zero", "threshold": threshold,
        "replaced_fraction": threshold, "tie_fraction": 0.0, "examples": 50, "validation_loss": number / 7,
        "validation_loss_stderr": 0.25, "validation_accuracy": 0.5, "seconds": 0.125, "network": f"n{seed}",
        "weights": f"w{seed}{epoch}", "status": "ok",
    }
    for number, (seed, epoch, measure, threshold) in enumerate(CELLS)
]  # fmt: skip
PAIRS = [
    {
        "run": "run", "task": "iris", "model": "mlp", "seed": seed, "epoch": epoch, "level": level,
        "reduction": "mean", "scope": "layer", "measure": "magnitude", "other": "random", "groups": 12,
        "spearman": number / 9, "status": "ok",
    }
    for number, (seed, epoch, level) in enumerate(itertools.product((0, 1), (2, 4), ("unit", "weight")))
]  # fmt: skip
SETTINGS = {
    "task": "iris", "model": "mlp", "measures": ["magnitude", "random"], "levels": ["weight"], "reductions": ["mean"],
    "scopes": ["layer"], "thresholds": [0.0, 0.5, 1.0], "epochs": 4, "every": 2, "seeds": [0, 1], "optimizer": "adam",
}  # fmt: skip
ABOUT = {
    "kind": "threshold_grid", "settings": SETTINGS, "classes": 3, "chance_loss": 1.0986, "chance_accuracy": 0.3333,
    "data_sha256": {"iris": "aa"}, "measures_sha256": {"magnitude": "bb", "random": "cc"},
}  # fmt: skip
OF_AGREEMENT = {"kind": "agreement", "measures_sha256": ABOUT["measures_sha256"]}
ARRAYS = [np.arange(6.0), np.ones((2, 3), "float32")]


@pytest.fixture(autouse=True)
def provenance(monkeypatch):
    monkeypatch.setattr(
        store, "provenance", lambda: {"versions": {"keras": "3"}, "backend": backend.NAME, "commit": None}
    )


def stores(folder):
    yield Store(folder, "run", threshold_grid.COLUMNS, threshold_grid.KEY, ABOUT), ROWS
    yield Store(folder / "agreement", "run", agreement.COLUMNS, agreement.KEY, OF_AGREEMENT), PAIRS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two networks, of which the second is still in the shard of its worker, and another run beside it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            store, "provenance", lambda: {"versions": {"keras": "3"}, "backend": backend.NAME, "commit": None}
        )
        for each, rows in stores(folder):
            each.expect(len(rows))
            each.append(rows[: len(rows) // 2])
            each.shard("seed-1")
            each.append(rows[len(rows) // 2 :])
            each.close()
        other = Store(folder, "other", threshold_grid.COLUMNS, threshold_grid.KEY, ABOUT)
        other.expect(len(ROWS))
        other.append([{**row, "run": "other", "model": "cnn"} for row in ROWS])
        other.close()
    for epoch in (2, 4):
        Checkpoints(folder / "checkpoints" / "run" / "seed-1").save(epoch, ARRAYS)
    lock = locks.Lock(folder / "checkpoints", "run")
    assert lock.take(done=0)
    lock.release("OSError: No space left on device")
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """Copy that run to a new folder; finished and packed, if asked."""
    numbers = itertools.count()

    def to_new_folder(packed=False):
        folder = tmp_path / str(next(numbers))
        shutil.copytree(whole, folder)
        if packed:
            for each, _ in stores(folder):
                each.fold("seed-1")
                each.path.with_name("run.csv.gz").write_bytes(gzip.compress(each.path.read_bytes()))
                each.path.unlink()
        return folder

    return to_new_folder


def texts(rows):
    return sorted(tuple(map(store.written, row.values())) for row in rows)


def heard(function, *arguments):
    """Call a function: (what it returned or None, the sentence of its error or None, whether a warning came)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return function(*arguments), None, bool(said)
        except (ValueError, OSError) as error:
            return None, (error.strerror if isinstance(error, OSError) else None) or str(error), bool(said)


def write(folder):
    """Go on with the run to its end: the rows of both files."""
    found = []
    for each, rows in stores(folder):
        each.fold("seed-1")
        each.refresh()
        each.complete(rows)
        each.restore_settings()
        each.close()
        found.append(texts(each.rows()))
    return found


def values(frame, columns, run="run"):
    frame = frame[frame["run"] == run][columns]
    return {tuple(map(str, row)) for row in frame.itertuples(index=False)}


READ = ["seed", "epoch", "measure", "threshold", "validation_loss", "examples", "chance_loss", "status"]
AGREEING = ["seed", "epoch", "level", "measure", "other", "groups", "spearman"]


def read(folder):
    frame = report.read([folder])
    assert len(values(frame, READ, "other")) == len(ROWS)
    return values(frame, READ)


def read_pairs(folder):
    return values(report.read_agreement([folder / "agreement"]), AGREEING)


def status(folder):
    found = experiments.status(folder).set_index("run")
    assert found.loc["other", "state"] == "finished"
    return found.loc["run"].to_dict() if "run" in found.index else None


def resume(folder):
    epoch, arrays = Checkpoints(folder / "checkpoints" / "run" / "seed-1").latest(4)
    return [] if arrays is None else [epoch, *map(np.ndarray.tolist, arrays)]


def judge(folder, path, right, protected=True):
    """Say how a case ended, in each of the ways to meet it: Counter; raise AssertionError if it was silent or raw.

    Args:
        folder: pathlib.Path. With the damaged file.
        path: pathlib.Path. That file.
        right: dict from reader to the values of the whole run.
        protected: bool. Whether checksums are there that tell of a changed value.
    """
    ends = collections.Counter()
    for reader, expected in right.items():
        found, error, warned = heard(reader, folder)
        if error is not None:
            assert error.startswith(("Expected", "Left out")), f"{reader.__name__}: a raw error: {error}"
            ends["refused"] += 1
        elif warned:
            ends["warned"] += 1
        elif reader is status:
            # Without its settings file a run is none to the status; it is to whoever runs or reads it.
            known = found is None or found["state"] in ("cannot be read", "finished", "unfinished", "stopped")
            assert known and (found is not None or not path.exists() or path.suffix == ".json"), found
            ends["named" if found is not None and found["state"] == "cannot be read" else "right"] += 1
        elif reader is resume:
            assert not found or found[1:] == expected[1:], "another state"
            ends["right"] += 1
        else:
            # Chance is unknown where nobody says it, which shows.
            known = {tuple("nan" if c == "1.0986" else c for c in row) for row in expected} | expected
            assert not protected or found <= known, f"{reader.__name__}: other values in silence: {found - known}"
            ends["right"] += 1
    before = path.read_bytes() if path.is_file() else None
    found, error, warned = heard(write, folder)
    if error is None:
        complete = [texts(ROWS), texts(PAIRS)]
        assert not protected or found == complete, "written on from other values in silence"
        ends["repaired with a word" if warned else "repaired"] += 1
        again, error, _ = heard(write, folder)
        assert error is None and again == found
    else:
        assert error.startswith("Expected"), f"write: a raw error: {error}"
        assert before is None or path.read_bytes() == before, f"a file that was not understood was changed: {error}"
        ends["refused to write"] += 1
    return ends


@pytest.fixture
def right(whole):
    return {reader: heard(reader, whole)[0] for reader in (read, read_pairs, status, resume)}


def flip(content, place, bit=0):
    place = min(int(place * len(content)), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def other_digit(content):
    places = [place for place, byte in enumerate(content) if byte in b"123456789"]
    place = places[len(places) // 2] if places else 0
    return content[:place] + b"0" + content[place + 1 :]


NOISE = random.Random(0).randbytes(300)
CUTS = {f"cut at {share}": lambda c, share=share: c[: int(share * len(c))] for share in (0.01, 0.1, 0.5, 0.75, 0.97)}
FLIPS = {
    f"bit {bit} at {place}": lambda c, place=place, bit=bit: flip(c, place, bit)
    for place in (0.0, 0.3, 0.6, 0.9) for bit in (0, 5)
}  # fmt: skip
KINDS = {
    **CUTS, **FLIPS,
    "emptied": lambda c: b"",
    "without its last byte": lambda c: c[:-1],
    "zeroed": lambda c: bytes(len(c)),
    "zeroed from the middle": lambda c: c[: len(c) // 2] + bytes(len(c) // 2),
    "zeroed in the middle": lambda c: c[: len(c) // 3] + bytes(len(c) // 3) + c[2 * len(c) // 3 :],
    "zeros after it": lambda c: c + bytes(4096),
    "a digit that is another": other_digit,
    "noise": lambda c: NOISE,
    "noise within": lambda c: c[: len(c) // 2] + NOISE + c[len(c) // 2 :],
    "noise after it": lambda c: c + NOISE,
    "noise before it": lambda c: NOISE + c,
    "a line of noise": lambda c: c + NOISE.replace(b"\n", b"") + b"\n",
    "twice": lambda c: c + c,
    "the second half alone": lambda c: c[len(c) // 2 :],
    "a part that is lost": lambda c: c[: len(c) // 3] + c[len(c) // 2 :],
    "backwards": lambda c: c[::-1],
    "packed once more": gzip.compress,
    "in 16 bits": lambda c: c.decode("latin-1").encode("utf-16"),
    "a word": lambda c: b"moved",
    "an object": lambda c: b"{}",
    "a list": lambda c: b"[1, 2]\n",
}  # fmt: skip


def in_the_way(path, kind):
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to nowhere":
        path.symlink_to(path.with_name("nowhere"))


PLACES = ("deleted", "a folder", "a link to nowhere")
SIDE = ["run.json", "run.sums", "run+seed-1.sums", "agreement/run.csv", "agreement/run.json", "agreement/run.sums",
        "agreement/run+seed-1.csv", "checkpoints/run.holder"]  # fmt: skip
MAIN = ["run.csv", "run+seed-1.csv", "checkpoints/run/seed-1/00004.npz"]


def damage(copy, right, names, packed=False):
    """Damage each of some files in each way; return how often that was done, and how it ended."""
    ends, count, wrong = collections.Counter(), 0, []
    for name, kind in itertools.product(names, (*KINDS, *PLACES)):
        folder = copy(packed)
        path = folder / name
        if kind in KINDS:
            content = path.read_bytes()
            path.write_bytes(KINDS[kind](content))
        else:
            in_the_way(path, kind)
        try:
            ends += judge(folder, path, right)
        except Exception as error:
            wrong.append(f"{name}, {kind}: {type(error).__name__}: {error}")
        count += 1
        shutil.rmtree(folder)
    assert not wrong, wrong
    return count, ends


def test_damaged_results(copy, right):
    count, ends = damage(copy, right, MAIN)
    packed, others = damage(copy, right, ["run.csv.gz"], packed=True)
    print(count + packed, ends + others)
    assert count + packed >= 80 and min(ends[end] for end in ("refused to write", "repaired")) > 0


def test_damaged_side_files(copy, right):
    count, ends = damage(copy, right, SIDE)
    print(count, ends)
    assert count >= 190 and min(ends[end] for end in ("refused to write", "repaired with a word", "named")) > 0


def table(content):
    return [line.split(",") for line in content.decode().splitlines()]


def joined(rows, comma=",", end="\n"):
    return "".join(comma.join(row) + end for row in rows).encode()


def each_row(change, rows):
    return joined([rows[0], *map(change, rows[1:])])


def in_row(content, number, change):
    lines = content.split(b"\n")
    lines[number] = change(lines[number])
    return b"\n".join(lines)


END = len(threshold_grid.COLUMNS)
VARIANTS = {
    **{f"line ends {end!r}": lambda c, end=end: c.replace(b"\n", end) for end in (
        b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\n\r", b"\x0b", b"\x0c", b"\x1e", b"\xe2\x80\xa8", b" ", b"\\n", b"",
    )},
    **{f"line ends {end!r} but the last": lambda c, end=end: c.replace(b"\n", end)[: -len(end)] for end in (
        b"\n", b"\r", b"\r\n",
    )},
    **{f"line ends {end!r} from line 5 on": lambda c, end=end: b"\n".join(c.split(b"\n", 5)[:5]) + b"\n"
       + c.split(b"\n", 5)[5].replace(b"\n", end) for end in (b"\r", b"\r\n", b"\x0c", b"")},
    **{f"separated by {mark!r}": lambda c, mark=mark: c.replace(b",", mark.encode()) for mark in "\t;| :"},
    **{f"in {code}": lambda c, code=code: c.decode().encode(code) for code in (
        "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037", "utf-7",
    )},
    **{f"without column {number}": lambda c, n=number: joined([r[:n] + r[n + 1 :] for r in table(c)])
       for number in range(END)},
    **{f"a row without value {number}": lambda c, n=number: in_row(
        c, 3, lambda line: b",".join(line.split(b",")[:n] + line.split(b",")[n + 1 :])) for number in range(END)},
    **{f"a row cut after value {number}": lambda c, n=number: in_row(
        c, 4, lambda line: b",".join(line.split(b",")[:n])) for number in range(1, END)},
    **{f"a row cut {count} bytes before its end": lambda c, n=count: in_row(c, 4, lambda line: line[:-n])
       for count in (1, 2, 3, 9)},
    **{f"cut at byte {place}": lambda c, n=place: c[:n] for place in range(7, 1300, 61)},
    "quoted": lambda c: joined([[f'"{v}"' for v in r] for r in table(c)]),
    "a quote that stays open": lambda c: in_row(c, 2, lambda line: b'"' + line),
    "spaces after commas": lambda c: c.replace(b",", b", "),
    "spaces at the ends": lambda c: c.replace(b"\n", b" \n"),
    "commas at the ends": lambda c: c.replace(b"\n", b",\n"),
    "in capitals": lambda c: c.upper(),
    "a header in capitals": lambda c: in_row(c, 0, bytes.upper),
    "without a header": lambda c: c.partition(b"\n")[2],
    "a header alone": lambda c: c.partition(b"\n")[0] + b"\n",
    "a header without its line end": lambda c: c.partition(b"\n")[0],
    "a header twice": lambda c: c.partition(b"\n")[0] + b"\n" + c,
    "a header at the end": lambda c: c + c.partition(b"\n")[0] + b"\n",
    "columns backwards": lambda c: joined([r[::-1] for r in table(c)]),
    "two columns exchanged in the header": lambda c: in_row(
        c, 0, lambda line: line.replace(b"seed,epoch", b"epoch,seed")),
    "two values exchanged in a row": lambda c: each_row(lambda r: [*r[:3], r[4], r[3], *r[5:]], table(c)),
    "a column more": lambda c: joined([[*r, "1"] for r in table(c)]),
    "an index": lambda c: joined([[str(n), *r] for n, r in enumerate(table(c))]),
    "rows backwards": lambda c: joined([table(c)[0], *table(c)[:0:-1]]),
    "a row twice": lambda c: c + c.split(b"\n")[2] + b"\n",
    "every row twice": lambda c: c + c.partition(b"\n")[2],
    "a row less": lambda c: in_row(c, 3, lambda line: b""),
    "two rows in one": lambda c: in_row(c, 3, lambda line: line + line),
    "a remark first": lambda c: b"# rows of a run\n" + c,
    "a remark within": lambda c: in_row(c, 3, lambda line: line + b"\n# from here on"),
    "a conflict": lambda c: in_row(c, 3, lambda line: b"<<<<<<< HEAD\n" + line + b"\n======="),
    "a sign of the end": lambda c: c + b"\x1a",
    "bytes that are no text": lambda c: in_row(c, 3, lambda line: line.replace(b"iris", b"ir\xff\xfes")),
    "zeros within": lambda c: in_row(c, 3, lambda line: line.replace(b"iris", b"ir\0\0")),
    "another run": lambda c: c.replace(b"run,", b"ran,"),
    "another run in a row": lambda c: in_row(c, 3, lambda line: line.replace(b"run,", b"ran,")),
    "no status": lambda c: in_row(c, 3, lambda line: line.removesuffix(b"ok")),
    "a long line": lambda c: in_row(c, 3, lambda line: line + b"x" * 200_000),
}  # fmt: skip
CHANGES = {
    "a quote within": lambda c: in_row(c, 2, lambda line: line.replace(b"iris", b'i"ris', 1)),
    "numbers in other words": lambda c: c.replace(b",0.5,", b",5e-1,"),
    "numbers rounded": lambda c: each_row(lambda r: [v[:6] if "." in v else v for v in r], table(c)),
    "commas in numbers": lambda c: c.replace(b"0.25", b'"0,25"'),
    "another status": lambda c: in_row(c, 3, lambda line: line.removesuffix(b"ok") + b"validation loss is nan"),
    "another measure": lambda c: in_row(c, 3, lambda line: line.replace(b"magnitude", b"random")),
    "a row more": lambda c: c + c.split(b"\n")[2].replace(b",0.5,", b",0.75,", 1) + b"\n",
    **{f"another digit in row {row}": lambda c, n=row: in_row(c, n, other_digit) for row in range(2, 13)},
    **{f"bit {bit} in row {row}": lambda c, n=row, bit=bit: in_row(c, n, lambda line: flip(line, n / 13, bit))
       for row in range(1, 13) for bit in (0, 1, 4)},
}  # fmt: skip
"""What only a checksum tells of."""


def test_variants_of_a_csv(copy, right):
    ends, count, wrong = collections.Counter(), 0, []
    ways = [(*each, True, False) for each in (*VARIANTS.items(), *CHANGES.items())]
    ways += [(*each, False, False) for each in list(VARIANTS.items())[::2]]  # as files of earlier versions are
    ways += [(*each, True, True) for each in list(VARIANTS.items())[::7]]
    for kind, change, checked, packed in ways:
        folder = copy(packed)
        path = folder / ("run.csv.gz" if packed else "run.csv")
        content = change(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        path.write_bytes(gzip.compress(content) if packed else content)
        if not checked:
            for side in folder.rglob("*.sums"):
                side.unlink()
        # Values that were exchanged, or of which an end is lost, are seen in no file without checksums.
        seen = checked or not any(word in kind for word in ("exchanged", "bytes before"))
        try:
            ends += judge(folder, path, right, protected=seen)
        except Exception as error:
            wrong.append(f"{kind}, {checked=}, {packed=}: {type(error).__name__}: {error}")
        count += 1
        shutil.rmtree(folder)
    print(count, ends)
    assert not wrong, wrong
    assert count >= 200 and min(ends[end] for end in ("refused to write", "repaired", "warned")) > 0


ODD = [None, "text", -1, True, [], {"a": None}, 1e999, 10**30]


def test_side_files_that_say_something_odd(copy, right, whole):
    """Each entry of a settings file and of a note with odd values, each in turn; settings with and without checksum."""
    ends, count, wrong = collections.Counter(), 0, []
    places = [("run.json", True), ("run.json", False), ("agreement/run.json", False), ("checkpoints/run.holder", False)]
    for name, checked in places:
        known = json.loads((whole / name).read_text())
        entries = [(entry, ODD[(number + part) % len(ODD)]) for number, entry in enumerate(known) for part in (0, 3, 6)]
        for entry, value in entries:
            folder = copy()
            said = {**known, entry: value}
            if not checked:
                said.pop("checksum", None)
            (folder / name).write_text(json.dumps(said))
            try:
                # What is said without a checksum is believed: it may have been changed on purpose.
                ends += judge(folder, folder / name, right, protected=checked)
            except Exception as error:
                wrong.append(f"{name}, {entry}={value!r}, {checked=}: {type(error).__name__}: {error}")
            count += 1
            shutil.rmtree(folder)
    print(count, ends)
    assert not wrong, wrong
    assert count >= 70


def test_reports_know_the_checksums_that_are_written():
    row = {"a": "1", "b": "x,\x1f", "c": ""}
    assert reading.digest(list(row.values())) == sums.digest(row.values())
    about = {"b": [1, 0.1], "a": {"c": None}, "checksum": "any"}
    assert reading.checksum(about) == files.checksum(about) == files.checksum({"a": {"c": None}, "b": [1, 0.1]})
