"""Every measure, new files included, agrees with its plain version in tests/reference/reference_measures.py."""

import numpy as np
import pytest
import reference_measures

import importance

pytestmark = pytest.mark.xdist_group("importance")  # whose networks are trained once
EVERY_MEASURE = pytest.mark.parametrize("name", importance.names())


# A difference of two losses near 1 is right to the rounding of the losses, however small it is.
ABSOLUTE = {"deletion": 5e-7}


def assert_close(name, scores, expected, relative=1e-4):
    """Compare to a relative error, and to a millionth of the variable's or a billionth of the model's largest score."""
    largest = max(float(np.max(e)) for e in expected)
    for score, plain in zip(scores, expected, strict=True):
        absolute = ABSOLUTE.get(name, max(1e-6 * float(np.max(plain)), 1e-9 * largest, 1e-12))
        np.testing.assert_allclose(score, plain, rtol=relative, atol=absolute)


FEWER = {"hessian": {"probes": 2}}
"""Options with which a reference takes less long."""


@EVERY_MEASURE
def test_agrees_with_its_reference(name, case):
    reference = getattr(reference_measures, name, None)
    if reference is None:
        pytest.fail(
            f"importance/{name}.py has no plain version to be compared with. Add a function {name}(case) to "
            "tests/reference/reference_measures.py that computes it one example at a time."
        )
    options = FEWER.get(name, {})
    check(name, importance.load(name, **options), reference(case, **options), case)


def check(name, measure, expected, case):
    """Hold a measure against its reference, which is None where it has to be refused."""
    if expected is None:
        with pytest.raises(ValueError, match=r"^Expected a .* received '.*Use the measure '\w+'\.$"):
            measure.score(case.model, case.x, case.y)
        return
    scores = measure.score(case.model, case.x, case.y, seed=reference_measures.SEED, examples=None)
    assert_close(name, scores, expected)


@pytest.mark.parametrize(
    "name, options",
    [
        ("mas", {"outputs": "logits"}), ("fisher_batched", {"batch_size": 5}), ("magnitude", {"folded": True}),
        ("hessian", {"at": "weights", "probes": 3}),
    ],
)  # fmt: skip
def test_options_agree_with_the_reference(name, options, case):
    check(name, importance.load(name, **options), getattr(reference_measures, name)(case, **options), case)


def test_every_reference_has_its_measure():
    functions = {name for name in dir(reference_measures) if name in importance.names()}
    assert functions == set(importance.names())
