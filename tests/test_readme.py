"""The README's Python runs as it stands there."""

import pathlib
import re

import pandas as pd
import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Variable.numpy() on JAX
def test_the_blocks_of_python_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(blocks) >= 2
    names, after = {}, []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
        after.append(dict(names))
    assert isinstance(names["frame"], pd.DataFrame)
    assert len(names["frame"]) == 2 * 2 * 21 * 2 * 2
    # A later block may use the name "model" for another network.
    tracked = next(state for state in after if "path_integral" in state)
    assert [s.shape for s in tracked["path_integral"]] == [tuple(v.shape) for v in tracked["model"].trainable_variables]


def test_links_lead_to_files():
    root = pathlib.Path(__file__).parents[1]
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [link for link in linked if not (root / link).exists()] == []
