"""The zoo's networks are tiny: compiling them takes much longer than running them."""

import re

import plain_zoo
import pytest

import importance

WRITTEN = {  # with options, where the measure's own would take long or hide a property
    "hessian": [f"hessian:probes={plain_zoo.PROBES}", f"hessian:probes={plain_zoo.PROBES},at=weights"],
    "fisher_batched": ["fisher_batched", "fisher_batched:batch_size=1"],
}
MEASURES = [
    written
    for name in importance.names()
    if importance.load(name).definition.needs not in ("trajectory", "optimizer")
    for written in WRITTEN.get(name, [name])
]
DEAR = ("deletion", "hessian", "expected_rise", "obs_layer")  # these four take two thirds of the time


def is_a_sentence(message):
    return len(message) < 600 and "\n" not in message and re.fullmatch(r"[A-Z].*[.]", message) is not None


def complaint(full, entry, evidence, case):
    """Say what is wrong with one measure of one network, or return None."""
    name = full.partition(":")[0]
    try:
        score = importance.load(full).score_from(evidence)
    except ValueError as error:
        if name not in entry.refused | entry.refusable:
            return f"was refused: {error}"
        return None if is_a_sentence(str(error)) else f"was not refused in a sentence: {error}"
    except Exception as error:
        return f"fell over: {type(error).__name__}: {error}"
    if name in entry.refused:
        return "was not refused, though no right number is known"
    # With one example a batch it is the empirical Fisher, by definition.
    reference = getattr(plain_zoo, "fisher_empirical" if full.endswith("batch_size=1") else name, None)
    if reference is None:
        return f"has no plain version: add a function {name}(case) to tests/reference/plain_zoo.py"
    options = {"at": "weights"} if full.endswith("at=weights") else {}
    return plain_zoo.disagreement(
        name, score, reference(case, **options), case.model.trainable_variables, entry.rounding
    )


@pytest.fixture
def complaints():
    """Say what is wrong with the measures of an entry of the zoo, a line each: of all, or of `DEAR`."""

    def of(entry, dear):
        model = entry.build()
        case = plain_zoo.Plain(entry, model)
        evidence = importance.Evidence(model, entry.x, entry.y, seed=plain_zoo.SEED, loss=entry.told, examples=None)
        found = [(full, complaint(full, entry, evidence, case)) for full in MEASURES if full.startswith(DEAR) == dear]
        return "\n".join(f"{full} {wrong}" for full, wrong in found if wrong)

    return of
