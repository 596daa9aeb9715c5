"""A cell of one's own, in NumPy with autograd: an integrator that leaks at learned rates."""

from __future__ import annotations

from itertools import pairwise

import autograd.numpy as np

from uoro import UORO, Adam, Learner, load_backend

UNITS, STEPS = 8, 3_000


def transition(params, state, inputs):
    x, target = inputs
    rate = 1.0 / (1.0 + np.exp(-params["rate"]))
    drive = np.tanh(params["W"] @ state["fast"] + params["U"] * x)
    fast = (1.0 - rate) * state["fast"] + rate * drive
    output = params["C"] @ fast
    return {"fast": fast, "steps": state["steps"] + 1}, np.sum((output - target) ** 2)


draw = np.random.RandomState(0).randn
params = {
    "rate": np.zeros(UNITS),
    "W": 0.2 * draw(UNITS, UNITS),
    "U": draw(UNITS),
    "C": 0.2 * draw(1, UNITS),
}
state = {"fast": np.zeros(UNITS), "steps": np.array(0)}  # an integer is carried along
learner = Learner(load_backend("autograd").dynamics(transition), UORO(), Adam(3e-3), params, state)

# Remember the number seen one step ago.
numbers = np.random.RandomState(1).choice([-1.0, 1.0], STEPS + 1)
losses = [float(learner.step((x, y)).loss) for y, x in pairwise(numbers)]
print(learner.dynamics.describe())
print(f"squared error: {np.mean(losses[:200]):.2f} at first, {np.mean(losses[-200:]):.2f} at last")
