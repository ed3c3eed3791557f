"""The plain loop of `benchmarks.sequential`, as one would write it with PyTorch; started by it with `--torch`."""

import json
import sys

import numpy as np
import torch

from benchmarks import timing


def loop(task, batch, steps, strength, rate):
    """Return the seconds of a step of training with the penalty, of one example's score, and of one test."""
    x, y, x_test, y_test = (torch.from_numpy(task[n]) for n in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test, y, y_test = x.flatten(1), x_test.flatten(1), y.long(), y_test.long()
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 300), torch.nn.LeakyReLU(0.01),
        torch.nn.Linear(300, 150), torch.nn.LeakyReLU(0.01),
        torch.nn.Linear(150, 10),
    )  # fmt: skip
    objective, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=rate)
    weights = list(model.parameters())
    anchors, importances = [w.detach().clone() for w in weights], [torch.ones_like(w) for w in weights]

    def backward(rows):
        optimizer.zero_grad()
        objective(model(x[rows]), y[rows]).backward()

    def step():
        backward(torch.randint(len(x), (batch,)))
        with torch.no_grad():
            for w, anchor, omega in zip(weights, anchors, importances, strict=True):
                w.grad += strength * omega / (1 + rate * strength * omega) * (w - anchor)
        optimizer.step()

    totals = [torch.zeros_like(w) for w in weights]

    def score():
        n = int(torch.randint(len(x), ()))
        backward(slice(n, n + 1))
        for total, w in zip(totals, weights, strict=True):
            total += w.grad**2

    def test():
        with torch.no_grad():
            (model(x_test).argmax(1) == y_test).float().mean().item()

    return timing.each(step, steps), timing.each(score, steps), timing.each(test, 1)


if __name__ == "__main__":
    path, batch, steps, strength, rate = sys.argv[1:]
    with np.load(path, allow_pickle=False) as task:
        print(json.dumps(loop(task, int(batch), int(steps), float(strength), float(rate))))
