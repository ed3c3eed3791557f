"""Time what turns scores into an order, from 0.3 to 124 million weights: seconds and memory have to grow in line.

    python -m benchmarks.scale [--networks mlp,mobilenet,resnet,gpt] [--levels weight,unit,conv_filter] [--rounds 3]

For each network, level and scope: the seconds of `aggregation`'s groups, of the partition and of one ranking (of the
processor, of which they use one core; medians of the rounds), and the most memory that all three take together, results
included, in arrays of the weights' size (float32; the weights themselves and the scores are not counted). Scores are
random, with ties as float32 has them, and `--ties` makes half of them equal.
"""

import argparse
import statistics
import time
import tracemalloc

from benchmarks import timing


def main():
    """Print a line for each network, level and scope."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--networks", default=",".join(NETWORKS))
    options.add_argument("--levels", default="weight,unit,conv_filter")
    options.add_argument("--scopes", default="layer,model")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--ties", action="store_true", help="let half of the scores be 0")
    given = options.parse_args()
    print(f"{timing.machine()}\n")
    print("network    weights (M)  level        scope  groups s  partition s  rank s  s a million  arrays at most")
    for name in given.networks.split(","):
        model = NETWORKS[name]()
        importances = scores(model, given.ties)
        count = sum(a.size for a in importances)
        for level in given.levels.split(","):
            for scope in given.scopes.split(","):
                rounds = [ordered(model, importances, level, scope) for _ in range(given.rounds)]
                groups, partition, rank = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
                arrays = peak(ordered, model, importances, level, scope) / (4 * count)
                print(
                    f"{name:10} {count / 1e6:11.2f}  {level:11}  {scope:5}  {groups:8.3f}  {partition:11.3f}  "
                    f"{rank:6.3f}  {(groups + partition + rank) / count * 1e6:11.3f}  {arrays:14.1f}",
                    flush=True,
                )


def scores(model, ties):
    """Draw scores like a model's weights, half of them 0 where ties are asked for."""
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = [np.abs(rng.standard_normal(tuple(v.shape), dtype="float32")) for v in model.trainable_variables]
    return [np.where(a < 0.6745, 0, a) for a in drawn] if ties else drawn


def ordered(model, importances, level, scope):
    """Return the seconds of the groups, of the partition, and of a ranking."""
    import aggregation
    import thresholding

    start = time.process_time()
    groups = aggregation.load(level).groups(model)
    grouped = time.process_time()
    partition = thresholding.Partition(groups, model, scope)
    parted = time.process_time()
    partition.rank(importances)
    return grouped - start, parted - grouped, time.process_time() - parted


def peak(function, *arguments):
    """Return the most bytes that a call holds at any time, those that it returns included."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def mlp():
    """784-300-150-10, 0.28 million weights."""
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((784,)), *(layers.Dense(units) for units in (300, 150, 10))])


def mobilenet():
    """MobileNetV2 with ten classes, 2.2 million weights."""
    import keras

    return keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10)


def resnet():
    """ResNet50, 25.6 million weights."""
    import keras

    return keras.applications.ResNet50(weights=None)


def gpt():
    """A network of GPT-2's sizes up to its last normalisation, 124 million weights."""
    import keras
    from keras import layers

    tokens = keras.Input((1024,), dtype="int32")
    hidden = layers.Embedding(50257, 768)(tokens) + layers.Embedding(1024, 768)(keras.ops.arange(1024))
    for _ in range(12):
        normal = layers.LayerNormalization()(hidden)
        hidden = hidden + layers.MultiHeadAttention(12, 64)(normal, normal, use_causal_mask=True)
        wide = layers.Dense(3072, "gelu")(layers.LayerNormalization()(hidden))
        hidden = hidden + layers.Dense(768)(wide)
    return keras.Model(tokens, layers.LayerNormalization()(hidden))


NETWORKS = {"mlp": mlp, "mobilenet": mobilenet, "resnet": resnet, "gpt": gpt}


if __name__ == "__main__":
    main()
