"""README and docs: short enough, with links that lead somewhere, and Python that runs as it stands there."""

import pathlib
import re

import pandas as pd
import pytest

from importance import __main__ as table_of_measures

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def names_after(page):
    """Run the blocks of Python of a page one after another; return the names after each."""
    names, after = {}, []
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.S):
        exec(compile(block, page.name, "exec"), names)
        after.append(dict(names))
    return after


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_readme_is_read_in_five_minutes():
    assert 700 < len(README.read_text("utf-8").split()) <= 1000


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, on JAX
def test_the_blocks_of_the_readme_do_what_they_say(capsys):
    _, ordered, kept = names_after(README)
    assert isinstance(ordered["frame"], pd.DataFrame) and set(ordered["frame"]["status"]) == {"ok"}
    said = capsys.readouterr().out
    assert "over splits of the examples" in said
    accuracies = dict(re.findall(r"^(0\.0|30\.0) (0\.\d+)$", said, flags=re.M))
    assert float(accuracies["0.0"]) + 0.2 < float(accuracies["30.0"]), said
    assert kept["strength"] == 30


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_blocks_of_the_page_on_python_run_one_after_another():
    after = names_after(ROOT / "docs" / "python.md")
    assert len(after[0]["frame"]) == 2 * 2 * 21 * 2 * 2
    assert after[1]["frame"]["fold"].nunique() == 8
    # A later block may use the name "model" for another network.
    tracked = next(state for state in after if "path_integral" in state)
    assert [s.shape for s in tracked["path_integral"]] == [tuple(v.shape) for v in tracked["model"].trainable_variables]


def test_other_pages_have_no_python_that_no_test_runs():
    pages = [page for page in PAGES if "```python" in page.read_text("utf-8")]
    assert pages == [README, ROOT / "docs" / "python.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8"))
    assert [link for link in linked if not (page.parent / link).exists()] == []


def test_every_page_is_linked():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [page.name for page in PAGES[1:] if f"{page.name})" not in text] == []


def test_the_table_of_measures_is_current():
    assert (ROOT / "docs" / "measures.md").read_text("utf-8") == table_of_measures.markdown()
