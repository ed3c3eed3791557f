"""Names of the version before: they do what they did, and say how they are called now."""

import pytest

import report


@pytest.mark.parametrize("old, new", sorted(report.RENAMED.items()))
def test_an_old_name_is_the_new_one_and_says_so(old, new):
    with pytest.warns(DeprecationWarning, match=rf"report\.{old} is called report\.{new} now"):
        assert getattr(report, old) is getattr(report, new)
    assert old not in report.__all__ and new in report.__all__


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="nothing"):
        _ = report.nothing
