"""The same sums by BackPACK, on PyTorch; started by `benchmarks.importance` with `--torch`, which asks for each.

Reads a line for each measurement, the name of an extension; writes the seconds of a call, of the clock and of all
threads of the processor.
"""

import json
import sys
import time

import numpy as np
import torch
from backpack import backpack, extend, extensions
from backpack.custom_module.permute import Permute


def network(name, weights):
    """Build `benchmarks.importance.plain_network` for PyTorch, with its weights."""
    if name == "mlp":
        stack = [torch.nn.Flatten(), *_dense(784, 300), *_dense(300, 150), torch.nn.Linear(150, 10)]
    else:
        stack = [*_convolution(1, 32), *_convolution(32, 32), torch.nn.MaxPool2d(2)]
        stack += [*_convolution(32, 64), *_convolution(64, 64), torch.nn.MaxPool2d(2)]
        stack += [Permute(0, 2, 3, 1), torch.nn.Flatten()]  # channels last, as in Keras
        stack += [*_dense(1024, 64), *_dense(64, 64), torch.nn.Linear(64, 10)]
    model = torch.nn.Sequential(*stack)
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    return extend(model)


def _dense(inputs, units):
    return torch.nn.Linear(inputs, units), torch.nn.ReLU()


def _convolution(channels, filters):
    return torch.nn.Conv2d(channels, filters, 3), torch.nn.ReLU()


def sums(model, x, y, extension, chunk):
    """Sum over the examples, chunk by chunk: one array for each parameter."""
    objective = extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    totals = [torch.zeros_like(p) for p in model.parameters()]
    for start in range(0, len(x), chunk):
        model.zero_grad()
        rows = slice(start, start + chunk)
        with backpack(extension()):
            objective(model(x[rows]), y[rows]).backward()
        for total, parameter in zip(totals, model.parameters(), strict=True):
            total += getattr(parameter, extension().savefield)
    return totals


def measured(function):
    """Return the seconds of one call: of the clock, of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


def main(path, name):
    """Answer the lines of the standard input, each extension by its fastest size of chunks."""
    with np.load(path, allow_pickle=False) as given:
        weights = [given[f"weight_{number}"] for number in range(len(given.files) - 2)]
        x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"]).long()
    model, chunks = network(name, weights), {}
    for line in sys.stdin:
        extension = getattr(extensions, line.strip())

        def call(size, extension=extension):
            return sums(model, x, y, extension, size)

        if extension not in chunks:  # which warms up, too
            np.savez(path, *[total.numpy() for total in call(100)])
            chunks[extension] = min((50, 200, 1000), key=lambda size, call=call: measured(lambda: call(size))[0])
        print(json.dumps(measured(lambda call=call, size=chunks[extension]: call(size))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
