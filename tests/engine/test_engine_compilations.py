"""What was compiled is kept in the user's cache folder, where there is one that can be written."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from engine import backend, compilations

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(compilations.platformdirs, "user_cache_path", lambda name, appauthor: tmp_path / "cache" / name)
    return tmp_path / "cache"


def test_what_is_old_goes_and_the_rest_stays(cache):
    folder = compilations.folder()
    assert folder == cache / "weightwise" / "jax" and folder.is_dir()
    (folder / "new").write_bytes(b"1")
    (folder / "old").write_bytes(b"1")
    before = time.time() - compilations.DAYS * 24 * 3600
    os.utime(folder / "new", (before + 100, before + 100))
    os.utime(folder / "old", (before - 100, before - 100))
    assert compilations.folder() == folder
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_without_a_folder_that_can_be_written_nothing_is_kept(cache, monkeypatch):
    cache.write_text("not a folder")
    assert compilations.folder() is None
    cache.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert compilations.folder() is None


@pytest.mark.skipif(backend.NAME != "jax", reason="TensorFlow keeps nothing that it compiled")
def test_a_second_process_compiles_nothing(tmp_path):
    source = """
import sys, jax
from engine import backend
hits = []
jax.monitoring.register_event_listener(lambda event, **more: hits.append(event.endswith("/cache_hits")))
print(float(backend.compiled(lambda a: (a @ a).sum())(jax.numpy.ones((3, 3)))), sum(hits) > 0)
print(jax.config.jax_compilation_cache_dir, file=sys.stderr)
"""
    others = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = {**others, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XDG_CACHE_HOME": str(tmp_path)}
    said = []
    for own in ({}, {}, {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}):
        done = subprocess.run(
            [sys.executable, "-c", source], cwd=ROOT, env={**environment, **own}, capture_output=True, text=True
        )
        said.append((done.stdout.split(), done.stderr.strip()))
    assert [words for words, _ in said] == [["27.0", "False"], ["27.0", "True"], ["27.0", "False"]]
    assert said[0][1] == said[1][1] and said[2][1] == str(tmp_path / "own")
