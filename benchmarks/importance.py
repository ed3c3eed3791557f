"""Time the importance measures against a loop of one-example backward passes, side by side in one run.

    python -m benchmarks.importance [--examples 5000] [--models mlp,cnn] [--loop 200] [--eager 30] [--torch]
    python -m benchmarks.importance --classes 1000 --examples 500

Three ways to the same numbers, on MNIST:

* ours: `importance.load(...).score(...)`, the whole call, after one that compiled it;
* loop: one backward pass an example, compiled by the same backend, the sum kept on the device (the faster one of XLA
  and a TensorFlow graph is taken);
* eager: the same without compiling.

Then what it costs to hold the layers' local rules against the gradient of the whole model, which is done once for each
network, beside the first score of a network (which compiles) and a further one.

Measures without a loop of that kind, as `obs`, have their time and memory alone; they come first in `--measures`, for
what an earlier one took hides what they take.

The loops are timed on the first `--loop` and `--eager` examples and scaled up; all three alternate, and the median of
the rounds is taken. Peak memory is the process's high-water mark; each model runs in a process of its own.

With `--classes`: what the Fisher information costs where classes are many, exact and sampled, and how far sampled ones
are from it: the sum of absolute differences by the sum, and the rank correlation.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

from benchmarks import timing

MEASURES = {"fisher_empirical": "square", "mas": "abs"}
BESIDE = {
    "fisher_empirical": "SumGradSquared", "mas": "SumGradSquared", "taylor": "SumGradSquared", "fisher": "DiagGGNExact",
}  # fmt: skip
EQUAL = ("fisher_empirical", "fisher")


def main():
    """Print the table of both models; each is measured in a process of its own, for its peak of memory."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--examples", type=int, default=5000)
    options.add_argument("--models", default="mlp,cnn")
    options.add_argument("--loop", type=int, default=200, help="examples that the compiled loop is timed on")
    options.add_argument("--eager", type=int, default=30, help="examples that the eager loop is timed on")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument(
        "--measures", help=f"such as obs,{','.join(MEASURES)}; with --torch of {','.join(BESIDE)}; default: all"
    )
    options.add_argument("--torch", action="store_true", help="beside BackPACK, which has to be installed")
    options.add_argument("--classes", type=int, help="of 784-300-150-classes at random weights, in place of all else")
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.classes:
        return many_classes(given)
    given.measures = (given.measures or ",".join(BESIDE if given.torch else ["obs", *MEASURES])).split(",")
    if given.one:
        return beside_backpack(given) if given.torch else compare(given)
    if given.torch and any(importlib.util.find_spec(name) is None for name in ("torch", "backpack")):
        print("PyTorch or BackPACK is not installed: pip install torch backpack-for-pytorch")
        return None
    for number, model in enumerate(given.models.split(",")):
        command = [sys.executable, "-m", "benchmarks.importance", *sys.argv[1:], "--models", model, "--one"]
        subprocess.run(command, check=True, env={**os.environ, "WEIGHTWISE_BENCHMARK_PART": str(number)})


def compare(given):
    """Time one model in all ways and print its lines."""
    import importance
    import tasks

    if os.environ.get("WEIGHTWISE_BENCHMARK_PART", "0") == "0":
        print(
            f"{timing.machine()}\n{given.examples} examples; loops timed on {given.loop} (compiled) and {given.eager} "
            "(eager), scaled up\n"
        )
        print("model measure           ours s   loop s   eager s   loop/ours  eager/ours  extra peak MiB")
    task = tasks.load("mnist")
    model = task.build_model(given.models)
    x, y = task.x_train[: given.examples], task.y_train[: given.examples]
    for name in given.measures:
        seconds = {"ours": [], "loop": [], "eager": []}

        def ours(name=name):
            importance.load(name).score(model, x, y, loss=task.loss, examples=None)

        before = peak()
        ours()
        extra = peak() - before
        if name not in MEASURES:
            mine = sorted(timing.seconds(ours) for _ in range(given.rounds))[given.rounds // 2]
            print(f"{given.models:5} {name:17} {mine:7.2f}  {'-':>7}  {'-':>8}   {'-':>9}  {'-':>10}  {extra:14.0f}")
            continue
        loop, eager = loops(model, task.loss, MEASURES[name], name)
        for _ in range(given.rounds):
            seconds["ours"].append(timing.seconds(ours))
            seconds["loop"].append(timing.seconds(loop, x[: given.loop], y) * given.examples / given.loop)
            seconds["eager"].append(timing.seconds(eager, x[: given.eager], y) * given.examples / given.eager)
        mine, compiled, plain = (sorted(times)[len(times) // 2] for times in seconds.values())
        print(
            f"{given.models:5} {name:17} {mine:7.2f}  {compiled:7.2f}  {plain:8.1f}   {compiled / mine:9.1f}  "
            f"{plain / mine:10.1f}  {extra:14.0f}",
            flush=True,
        )
    guard(given, model, x, y, task.loss)


def many_classes(given):
    """Score a dense network of many classes, and print a line for each kind of Fisher information."""
    import keras
    import numpy as np
    from scipy import stats

    import importance

    print(f"{timing.machine()}\n{given.examples} examples, {given.classes} classes\n")
    print("measure                       cpu s  extra peak MiB  difference  rank correlation")
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, activation="relu") for units in (300, 150)]
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(given.classes)])
    loss, rng = keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.random.default_rng(0)
    x, y = rng.random((given.examples, 784), "float32"), rng.integers(0, given.classes, given.examples)
    importance.load("fisher_empirical").score(model, x, y, loss=loss)  # what any first score takes
    exact = None
    for name in ("fisher", "fisher_sampled", "fisher_sampled:draws=10"):

        def ours(name=name):
            return np.concatenate([s.ravel() for s in importance.load(name).score(model, x, y, loss=loss)])

        before = peak()
        found = ours()
        extra, processor = peak() - before, statistics.median(timing.both(ours)[1] for _ in range(given.rounds))
        exact = found if exact is None else exact
        apart, alike = np.abs(found - exact).sum() / exact.sum(), stats.spearmanr(found, exact).statistic
        print(f"{name:27} {processor:7.2f}  {extra:14.0f}  {apart:10.3f}  {alike:16.3f}", flush=True)


def beside_backpack(given):
    """Time ours and BackPACK's sums on one network in turn, and print a line for each of ours."""
    import numpy as np

    import importance
    import tasks

    if os.environ.get("WEIGHTWISE_BENCHMARK_PART", "0") == "0":
        print(f"{timing.machine()}\n")
        print(
            "model  examples  ours              beside         ours s  theirs s  ratio  ours cpu s  theirs cpu s  ratio"
        )
    task, name = tasks.load("mnist"), given.models
    count = given.examples if name == "mlp" else given.examples // 5
    x, y = task.x_train[:count], task.y_train[:count]
    model = plain_network(name)
    with tempfile.TemporaryDirectory() as folder, backpack(name, model, x, y, f"{folder}/given.npz") as ask:
        for measure in given.measures:
            extension, times = BESIDE[measure], {"ours": [], "theirs": []}

            def ours(measure=measure):
                return importance.load(measure).score(model, x, y, loss=task.loss, examples=None)

            mine = ours()
            ask(extension)
            if measure in EQUAL:
                with np.load(f"{folder}/given.npz", allow_pickle=False) as theirs:
                    for a, b in zip(mine, theirs.values(), strict=True):
                        np.testing.assert_allclose(a, like_keras(b, a.shape) / count, rtol=1e-3, atol=1e-3 * a.max())
            for _ in range(given.rounds):
                times["ours"].append(timing.both(ours))
                times["theirs"].append(ask(extension))
            (clock, processor), (their_clock, their_processor) = (
                [statistics.median(seconds) for seconds in zip(*found, strict=True)] for found in times.values()
            )
            print(
                f"{name:6} {count:8}  {measure:16}  {extension:14}  {clock:6.3f}  {their_clock:8.3f}  "
                f"{clock / their_clock:5.2f}  {processor:10.3f}  {their_processor:12.3f}  "
                f"{processor / their_processor:5.2f}",
                flush=True,
            )


def plain_network(name):
    """Build the networks of `benchmarks.importance_torch` for Keras."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    if name == "mlp":
        hidden = [layers.Flatten(), *(layers.Dense(units, "relu") for units in (300, 150))]
    else:
        first, second = ([layers.Conv2D(filters, 3, activation="relu") for _ in range(2)] for filters in (32, 64))
        hidden = [*first, layers.MaxPooling2D(), *second, layers.MaxPooling2D(), layers.Flatten()]
        hidden += [layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    return keras.Sequential([keras.Input((28, 28, 1)), *hidden, layers.Dense(10)])


@contextlib.contextmanager
def backpack(name, model, x, y, path):
    """Start the process of `benchmarks.importance_torch`; yield a function from an extension's name to seconds."""
    import numpy as np

    weights = {f"weight_{n}": like_torch(w) for n, w in enumerate(model.get_weights())}
    np.savez(path, x=np.ascontiguousarray(np.moveaxis(x, -1, 1)), y=y, **weights)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.importance_torch", path, name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"OMP_WAIT_POLICY": "passive", **os.environ},
    )  # fmt: skip

    def ask(extension):
        print(extension, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()


def like_torch(weight):
    """Bring a kernel's axes into PyTorch's order: outputs first."""
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
    return weight.transpose(order).copy()


def like_keras(weight, shape):
    """Bring a kernel's axes into the order of Keras."""
    return weight.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[len(shape)])


def guard(given, model, x, y, loss):
    """Time the check of the local rules on networks that are new, beside their first score and a further one."""
    import keras

    import importance
    from engine import per_example

    measure, seconds = importance.load("fisher_empirical"), {"check": [], "first": [], "further": []}
    for _ in range(given.rounds):
        fresh = keras.models.clone_model(model)

        def score(fresh=fresh):
            measure.score(fresh, x, y, loss=loss, examples=None)

        seconds["check"].append(timing.seconds(per_example.paths, fresh, x))
        seconds["first"].append(timing.seconds(score))
        seconds["further"].append(timing.seconds(score))
    check, first, further = (sorted(times)[len(times) // 2] for times in seconds.values())
    print(
        f"{given.models:5} check of the rules {check:.3f} s, once a network: {check / (check + first):.1%} of its "
        f"first score ({check + first:.2f} s, compiling included); a further one takes {further:.2f} s",
        flush=True,
    )


def loops(model, loss, transform, measure):
    """Return the compiled and the eager loop over examples, each `run(x, y)`."""
    import numpy as np
    from keras import ops

    from engine import backend, chunks, losses

    objective = losses.squared_norm(loss) if measure == "mas" else losses.objective(loss)
    function = ops.square if transform == "square" else ops.abs

    def add_one(totals, trainable, others, x, y):
        def of_example(weights):
            outputs, _ = model.stateless_call(weights, others, x, training=False)
            return objective(outputs, y)[0]

        return [t + function(g) for t, g in zip(totals, backend.gradients(of_example, trainable), strict=True)]

    def run(step, x, y):
        trainable, others = chunks.values(model)
        totals = [ops.zeros_like(w) for w in trainable]
        for n in range(len(x)):
            totals = step(totals, trainable, others, x[n : n + 1], y[n : n + 1])
        return np.asarray(totals[0])  # waits for the device

    x = np.zeros((20, *model.input_shape[1:]), "float32")
    y = np.zeros(20, "int32")
    ways = [backend.compiled(add_one, xla=xla) for xla in ((True, False) if backend.NAME == "tensorflow" else (True,))]
    for step in ways:
        run(step, x[:2], y)
    fastest = min(ways, key=lambda step: timing.seconds(lambda: run(step, x, y)))
    return (lambda x, y: run(fastest, x, y)), (lambda x, y: run(add_one, x, y))


def peak():
    """High-water mark of the process's memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


if __name__ == "__main__":
    main()
