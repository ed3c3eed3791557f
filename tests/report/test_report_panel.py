"""The panel: its choices are those that there are, a choice changes the figure, and without widgets a figure stands."""

import sys

import pandas as pd
import pytest

import report


@pytest.fixture
def panel(make_grid):
    one = make_grid({"obd": 0.6, "magnitude": 0.5, "random": 0.2}, seeds=5, epochs=(1, 5), levels=("weight", "unit"))
    other = make_grid({"mas": 0.4, "random": 0.2}, seeds=2, task="digits", run="other", scope="model")
    return report.Panel(pd.concat([one, other]))


def test_choices_are_those_that_there_are(panel):
    assert panel.options("mnist, mlp") == {
        "level": ["weight", "unit"], "scope": ["layer"], "epoch": [1, 5], "measure": ["magnitude", "obd", "random"],
    }  # fmt: skip
    assert panel.options("digits, mlp")["scope"] == ["model"]


def test_a_figure_is_of_what_is_chosen(panel):
    figure = panel.figure()
    assert [axis.get_title() for axis in figure.axes] == ["weight, epoch 5"]
    assert figure.get_suptitle().startswith("mnist, mlp: mean of 5 networks")  # the setting with the most of them
    figure = panel.figure(level="unit", epoch=1, measures=["obd"])
    assert [axis.get_title() for axis in figure.axes] == ["unit, epoch 1"]
    assert {text.get_text() for text in figure.axes[0].texts} == {"obd", "chance (2.303)"}


def test_a_choice_changes_the_picture_and_the_choices(panel):
    pytest.importorskip("ipywidgets")
    box = panel.widget()
    (setting, level, scope, epoch, measures), picture = box.children[0].children, box.children[1]
    assert (setting.value, level.value, scope.value, epoch.value) == ("mnist, mlp", "weight", "layer", 5)
    seen = [picture.value]
    for choice, value in ((level, "unit"), (epoch, 1), (measures, ("obd",)), (setting, "digits, mlp")):
        choice.value = value
        assert picture.value not in seen and picture.value[:4] == b"\x89PNG"
        seen.append(picture.value)
    assert measures.options == ("mas", "random") and (level.value, scope.value, epoch.value) == ("weight", "model", 5)


def test_without_widgets_a_figure_stands_still(panel, monkeypatch):
    with_widgets = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in with_widgets and with_widgets["image/png"][:4] == b"\x89PNG"
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    still = panel._repr_mimebundle_()
    assert set(still) == {"image/png", "text/plain"} and still["image/png"][:4] == b"\x89PNG"
