"""A recurrent model with river's interface: predict one item now, learn its target later.

Items are dicts of numbers. Targets come in the order of the predictions, at once or many items
late, as in river's delayed progressive validation.
"""

from collections import deque
from itertools import pairwise
from random import Random

import torch
from torch import nn
from uoro_torch import Online


class OnlineRegressor:
    """Regression on a stream of dicts, with a GRU that remembers."""

    def __init__(self, features, units=8, learning_rate=1e-2):
        self.features, self.waiting = sorted(features), deque()
        self.core, self.readout = nn.GRUCell(len(self.features), units), nn.Linear(units, 1)
        self.online = Online.for_module(self.core)
        params = [*self.core.parameters(), *self.readout.parameters()]
        self.optimizer = torch.optim.Adam(params, learning_rate)

    def predict_one(self, x):
        output = self.online(torch.tensor([float(x[name]) for name in self.features]))
        self.waiting.append((x, output))
        return self.readout(output).item()

    def learn_one(self, x, y):
        if not self.waiting:  # an item of which no prediction was asked
            self.predict_one(x)
        seen, output = self.waiting[0]
        if seen != x:
            raise ValueError(f"learn_one(x, y): expected the item predicted first, {seen}, got {x}")
        ((self.readout(output) - y) ** 2).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.waiting.popleft()


if __name__ == "__main__":
    # The target is the sum of the flow now and one item before. It is known five items later.
    torch.manual_seed(0)
    random = Random(0)
    flows = [random.choice([-1.0, 1.0]) for _ in range(601)]
    items = [({"flow": y, "noise": random.gauss(0, 0.1)}, x + y) for x, y in pairwise(flows)]
    model, errors = OnlineRegressor({"flow", "noise"}), []
    for index, (x, y) in enumerate(items):
        errors.append((model.predict_one(x) - y) ** 2)
        if index >= 5:
            model.learn_one(*items[index - 5])

    print(model.online.describe())
    first, last = sum(errors[:100]) / 100, sum(errors[-100:]) / 100
    print(f"squared error: {first:.2f} at first, {last:.4f} at last")
