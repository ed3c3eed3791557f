"""The page of results: one file, nothing from elsewhere, words for every figure, and no screen too narrow for it."""

import html
import pathlib
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import report
from report.__main__ import main
from report.page import page, write_page

CHROMIUM = pathlib.Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def frame():
    from report_frames import grid

    offsets = {f"a_measure_with_a_long_name_{number:02d}": 0.3 + number / 50 for number in range(14)} | {"random": 0.1}
    enough = grid(offsets, seeds=16, levels=("weight", "unit"))
    few = grid({"obd": 0.6, "random": 0.2, "magnitude": 0.5}, seeds=2, task="digits", run="other")
    return pd.concat([enough, few], ignore_index=True)


@pytest.fixture(scope="module")
def text(frame):
    return page(frame)


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_one_whole_file_without_scripts_or_a_network(text):
    elements = Elements(text)
    assert not elements.open  # every element ends
    assert not {"script", "link", "iframe"} & {tag for tag, _ in elements.found}
    addresses = [value for _, attrs in elements.found for name, value in attrs.items() if name in ("src", "href")]
    assert addresses and all(value.startswith(("data:image/png;base64,", "#")) for value in addresses)
    places = {attrs["id"] for _, attrs in elements.found if "id" in attrs}
    assert {value[1:] for value in addresses if value[0] == "#"} <= places
    assert "url(" not in text and not any(name.startswith("on") for _, attrs in elements.found for name in attrs)


def test_what_the_order_depends_on_and_how_far_the_line_is_are_said_where_there_are_such(text, make_grid):
    assert "What does the order depend on?" not in text
    fills = [make_grid({"a": 0.6, "b": 0.3, "greedy": 0.7}, seeds=8, fill=fill) for fill in ("noise", "zero")]
    found = page(pd.concat(fills, ignore_index=True))
    assert "What does the order depend on?" in found and "with fill noise and with fill zero" in found
    assert found.count("a is closest to greedy") == 2 and "How much worse measures are than the greedy line." in found


def test_every_figure_is_said_in_words(frame, text):
    images = [attrs for tag, attrs in Elements(text).found if tag == "img"]
    pairs = [attrs for attrs in images if "Pairs of measures" in attrs["alt"]]
    assert len(pairs) == len(report.order(frame).tests)
    assert len(images) == 5 + len(pairs)  # means, places, curves of two settings, ranks of one
    assert all(len(attrs["alt"]) > 40 for attrs in images)
    assert sum("mean of 16 networks" in attrs["alt"] for attrs in images) == 1


def test_answers_are_those_of_the_ordering(frame, text):
    ordering = report.order(frame)
    for values, rows in ordering.table.groupby(["task", "model", "level"]):
        best = rows[rows["rank"] == 1].iloc[0]
        answer = re.search(rf"<dt>{', '.join(values)}</dt><dd>(.*?)</dd>", text)[1]
        assert answer.startswith(f"{best['measure']} comes first of {len(rows)} measures (area {best['area']:.3f}")
        assert ("too few networks for a test" in answer) == (values[0] == "digits")
    better = ordering.pairs.query("task == 'mnist' and level == 'weight' and worse == 'random'")["p_holm"] <= 0.05
    assert f"Significantly better than random: {better.sum()} measures." in text


def test_orders_doubts_settings_and_digests_are_there(frame, tmp_path, write):
    path = write(frame[frame["task"] == "digits"])
    path.with_suffix(".json").write_text('{"classes": 10, "settings": {"optimizer": "adam & co"}, "backend": "jax"}')
    file = write_page(path, tmp_path / "new" / "report.html")
    text = file.read_text("utf-8")
    orders = report.order(report.read(path)).summary.partition("Pairs:")[0]
    assert " ".join(orders.split()) in " ".join(html.unescape(text).split())
    assert "adam &amp; co" in text and "<th>backend</th><td>jax</td>" in text
    assert re.search(r"SHA-256 of the file</th><td>[0-9a-f]{64}<", text)
    assert "too few blocks to tell pairs apart" in text


def test_the_command_names_the_page(frame, tmp_path, write, capsys):
    write(frame[frame["task"] == "digits"])
    assert main([str(tmp_path / "run.csv"), "--html", str(tmp_path / "report.html"), "--chance-loss", "2.303"]) == 0
    assert capsys.readouterr().out == f"Page: {tmp_path / 'report.html'}\n"
    assert main([str(tmp_path / "none.csv"), "--html", str(tmp_path / "x.html")]) == 1
    assert not (tmp_path / "x.html").exists()


def test_the_command_helps(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--html" in capsys.readouterr().out


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium in {CHROMIUM}")
def test_no_screen_is_too_narrow_and_it_prints(frame, text, tmp_path):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    (tmp_path / "report.html").write_text(text, "utf-8")
    with api.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for width in (1280, 400):
            seen = browser.new_page(viewport={"width": width, "height": 800})
            errors = []
            seen.on("requestfailed", lambda request, errors=errors: errors.append(request.url))
            seen.goto((tmp_path / "report.html").as_uri())
            assert seen.evaluate("document.documentElement.scrollWidth") <= width
            cut = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide')"
            assert seen.evaluate(f"[...document.querySelectorAll('body *')].filter({cut}).length") == 0
            shown = "[...document.images].map(image => image.complete && image.naturalWidth > 100)"
            assert all(seen.evaluate(shown)) and not errors
            size = "getComputedStyle(document.body).fontSize"
            assert seen.evaluate(size) == "16px"
            seen.emulate_media(media="print")
            assert seen.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert seen.pdf()[:4] == b"%PDF"
        browser.close()


def test_a_page_of_measures_that_do_not_differ_is_written(make_curve):
    rows = pd.concat([make_curve(np.linspace(0, 1, 5), measure=name, seed=seed) for name in "ab" for seed in range(3)])
    assert "None: all 2 measures score the same (3 networks)." in page(rows)
