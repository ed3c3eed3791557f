"""What the greedy line of the units of the MNIST network costs, on as many cores as there are.

    python -m benchmarks.oracles [examples] [layer|model]

The network is trained for one epoch; compiling is counted. Beside it stands one evaluation of the network on the same
examples, multiplied by how many the line needs: what it would cost to run the network for each.
"""

import sys
import time

import aggregation
import tasks
import thresholding
from engine import elimination


def main(examples=1000, scope="model"):
    """Time the line and print a sentence."""
    task = tasks.load("mnist")
    model = task.build_model("mlp")
    model.compile("adam", task.loss)
    model.fit(task.x_train, task.y_train, batch_size=100, verbose=0)
    groups = aggregation.load("unit").groups(model)
    ids, scopes = thresholding.Partition(groups, model, scope).numbered()
    new = thresholding.replacements([v.numpy() for v in model.trainable_variables], "noise")
    x, y = task.x_train[:examples], task.y_train[:examples]
    begun, processor = time.perf_counter(), time.process_time()
    made = elimination.Elimination(model, task.loss, x, y, ids, new)
    order = elimination.greedy(made, scopes)
    took, processor = time.perf_counter() - begun, time.process_time() - processor
    made.path(order)
    again = time.perf_counter()
    made.path(order)
    each = (time.perf_counter() - again) / made.count
    number = elimination.evaluations(scopes)
    print(
        f"greedy, scope {scope}, {made.count} units, {len(x):,} examples: {took:.0f} s ({processor:.0f} s of processor "
        f"time) for {number:,} evaluations; running the network for each would take {number * each:.0f} s"
    )


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, str), sys.argv[1:], strict=False)))
