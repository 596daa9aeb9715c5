"""Stop a gradient in the model, and `BlockRTRL` is the LSTM rule of 1997, RFLO or e-prop.

Each model takes its own last output as an input. With that input stopped, units no longer move each
other in what is differentiated, and the exact gradient of what is left is cheap and local. It is
biased for the model itself. Printed are, over a stream, the relative distance of its gradient from
the exact one of the model, and the cosine between both.

    python examples/detached.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uoro import RTRL, BlockRTRL, load_backend

UNITS, INPUTS, STEPS = 16, 4, 200
Cell = Callable[[Any, Any, Any, Callable[[Any], Any]], tuple[Any, Any]]


def lstm(params: Any, state: Any, x: Any, feed: Callable[[Any], Any]) -> tuple[Any, Any]:
    """An LSTM; with its recurrent input stopped, the rule of Hochreiter & Schmidhuber (1997)."""
    total = params["W"] @ x + params["R"] @ feed(state["h"]) + params["b"]
    i, f, o = jax.nn.sigmoid(total[: 3 * UNITS]).reshape(3, UNITS)
    c = f * state["c"] + i * jnp.tanh(total[3 * UNITS :])
    return {"c": c, "h": o * jnp.tanh(c)}, o * jnp.tanh(c)


def leaky(params: Any, state: Any, x: Any, feed: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Leaky units; with their recurrent input stopped, RFLO (Murray 2019), symmetric feedback."""
    n = UNITS
    total = params["W"][:n] @ x + params["R"][:n] @ feed(state["h"]) + params["b"][:n]
    h = 0.9 * state["h"] + 0.1 * jnp.tanh(total)
    return {"c": state["c"], "h": h}, h


def spiking(params: Any, state: Any, x: Any, feed: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Spiking units with adaptive thresholds; with spikes stopped, e-prop (Bellec et al. 2020).

    ``h`` is the membrane and ``c`` the adaptation. A spike has the derivative of a sigmoid.
    """
    n = UNITS

    def spike(membrane: Any, adaptation: Any) -> Any:
        over = membrane - 0.5 - 0.5 * adaptation
        smooth = jax.nn.sigmoid(4.0 * over)
        return smooth + jax.lax.stop_gradient((over > 0) - smooth)

    z = spike(state["h"], state["c"])
    given = params["W"][:n] @ x + params["R"][:n] @ feed(z) + params["b"][:n]
    h = 0.9 * state["h"] + given - 0.5 * jax.lax.stop_gradient(z)
    c = 0.95 * state["c"] + z
    return {"c": c, "h": h}, spike(h, c)


def compare(cell: Cell) -> tuple[float, float]:
    """Return distance and cosine of the gradient with the recurrent input stopped."""
    backend = load_backend("jax")
    generator = np.random.default_rng(0)
    params = {
        "W": generator.normal(size=(4 * UNITS, INPUTS)) / INPUTS**0.5,
        "R": generator.normal(size=(4 * UNITS, UNITS)) / UNITS**0.5,
        "b": np.zeros(4 * UNITS),
        "readout": generator.normal(size=UNITS) / UNITS**0.5,
    }
    stream = {"x": generator.normal(size=(STEPS, INPUTS)), "y": generator.normal(size=STEPS)}

    def transition(feed: Any, params: Any, state: Any, item: Any) -> tuple[Any, Any]:
        state, output = cell(params, state, item["x"], feed)
        return state, 0.5 * (params["readout"] @ output - item["y"]) ** 2

    with backend.precision("float64"):
        params, stream = backend.from_host(params), backend.from_host(stream)
        start = backend.from_host({"c": np.zeros(UNITS), "h": np.zeros(UNITS)})
        gradients = []
        for feed, estimator in ((lambda h: h, RTRL()), (jax.lax.stop_gradient, BlockRTRL())):
            # check=False: differences of the model see through a gradient that is stopped.
            dynamics = backend.dynamics(partial(transition, feed), check=False)
            first = jax.tree.map(lambda leaf: leaf[0], stream)
            carry = estimator.init(dynamics, params, start, inputs=first)

            def step(at: Any, item: Any, dynamics: Any = dynamics, by: Any = estimator) -> Any:
                carry, state, made = by.step(dynamics, params, *at, item, None)
                return (carry, state), made.gradient

            _, each = jax.jit(partial(jax.lax.scan, step))((carry, start), stream)
            rows = [leaf.reshape(STEPS, -1) for leaf in jax.tree.leaves(each)]
            gradients.append(jnp.concatenate(rows, 1))
        exact, stopped = gradients
        size, other, apart = (
            float(jnp.linalg.norm(matrix)) for matrix in (exact, stopped, exact - stopped)
        )
        return apart / size, float(jnp.sum(exact * stopped)) / (size * other)


if __name__ == "__main__":
    for name, cell in {"LSTM of 1997": lstm, "RFLO": leaky, "e-prop": spiking}.items():
        distance, cosine = compare(cell)
        print(f"{name}: distance {distance:.3f}, cosine {cosine:.3f}")
