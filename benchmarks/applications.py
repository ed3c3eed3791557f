"""Which networks of `keras.applications` can be scored and thresholded: one of each family, new weights, small images.

    python -m benchmarks.applications [--classes 10] [--only MobileNetV2 VGG16] [--examples 8]

Prints one row a network: seconds for each measure and for ranking and replacing at each level, or in one sentence why
not; and which part of the families can be done.
"""

import argparse
import inspect
import time

import keras
import numpy as np
import pandas as pd

import aggregation
import importance
import thresholding
from engine import backend, evaluation

FAMILIES = {
    "ConvNeXtTiny": 32, "DenseNet121": 32, "EfficientNetB0": 32, "EfficientNetV2B0": 32, "InceptionResNetV2": 75,
    "InceptionV3": 75, "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32, "NASNetMobile": 32, "ResNet50": 32,
    "ResNet50V2": 32, "VGG16": 32, "Xception": 71,
}  # fmt: skip
"""A member of each family, and the height and width of the smallest images that it takes."""
MEASURES = ["magnitude", "fisher_empirical", "mas", "taylor", "signal", "wanda"]
LEVELS = ["weight", "unit", "conv_filter"]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=sorted(FAMILIES), choices=sorted(FAMILIES))
    options = parser.parse_args()
    rows, done, whole = [], 0, 0
    for name in options.only:
        row = of_network(name, FAMILIES[name], options.classes, options.examples)
        refused = {what: said for what, said in row.items() if isinstance(said, str) and what != "network"}
        done += not set(refused) & set(LEVELS) and not set(MEASURES) <= set(refused)
        whole += not refused
        rows.append({what: "no" if what in refused else said for what, said in row.items()})
        print(f"{name}: " + ("all" if not refused else "; ".join(f"{k}: {v}" for k, v in refused.items())), flush=True)
    print("\n" + pd.DataFrame(rows).to_string(index=False, float_format="{:.1f}".format))
    print(
        f"\nSeconds, compiling included. {done} of {len(rows)} families can be scored and replaced at all levels, "
        f"{whole} of them scored by all of these measures."
    )


def of_network(name, size, classes, examples):
    """Score and threshold one network.

    Returns:
        dict. Of each measure and level the seconds, or why that is not possible.
    """
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    build = getattr(keras.applications, name)
    options = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(build).parameters else {}
    model = build(weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None, **options)
    x = rng.random((examples, size, size, 3), "float32")
    y = rng.integers(0, classes, examples)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    row = {"network": name, "size": size, "million weights": model.count_params() / 1e6}
    scores = None
    for measure in MEASURES:
        row[measure], found = _timed(lambda m=measure: importance.load(m).score(model, x, y, loss=loss))
        scores = found or scores
    evaluate = evaluation.Evaluator(model, loss, x, y)
    weights = [backend.copied(v) for v in model.trainable_variables]
    fill = evaluate.place(thresholding.replacements(weights, "noise", 0))
    for level in LEVELS:
        row[level], _ = _timed(lambda of=level: _threshold(model, evaluate, of, scores, fill))
    keras.backend.clear_session()
    return row


def _threshold(model, evaluate, level, scores, fill):
    groups = aggregation.load(level).groups(model)
    ranking = thresholding.Partition(groups, model, "layer", "all").rank(scores, "mean", 0)
    found = evaluate(evaluate.place(ranking.ranks), fill, [0.0, 0.5, 1.0])
    if not np.isfinite(found.loss).all():
        raise ValueError(f"the losses are {found.loss}")
    return found


def _timed(function):
    start = time.perf_counter()
    try:
        found = function()
    except (ValueError, TypeError, NotImplementedError) as error:
        return str(error).splitlines()[0][:200], None
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
