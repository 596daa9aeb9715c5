"""UORO of braintrace, and this library's on the same network; for ``peers.py``."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peer import ALPHABET, CHUNK, RATE, Called
from uoro_jax import JaxBackend

from uoro import SGD, UORO, Learner
from uoro.learning.carry import Progress
from uoro.learning.update import Clock, Update

block: Any = jax.block_until_ready  # Its types are not there.
braintrace: Any = import_module("braintrace")
brainstate: Any = import_module("brainstate")

CELL, READOUT = ("cell", "W", "weight"), ("out", "weight")


class Theirs:
    """The network in braintrace's own modules, trained by its UORO."""

    def __init__(self, units: int, xs: Any) -> None:
        class Net(brainstate.nn.Module):  # type: ignore[misc]  # its types are not there
            def __init__(self) -> None:
                super().__init__()
                self.cell = braintrace.nn.ValinaRNNCell(ALPHABET, units, activation="tanh")
                self.out = braintrace.nn.Linear(units, ALPHABET)

            def update(self, x: Any) -> Any:
                return self.out(self.cell(x))

        with warnings.catch_warnings():
            # It says that the readout feeds no state, which is so.
            warnings.simplefilter("ignore", UserWarning)
            self.learner = braintrace.compile(Net(), "uoro", xs[0], batch_size=1)
        self.weights = self.learner.param_states
        self.jitted_chunk = brainstate.transform.jit(self._chunk)
        self.jitted_step = brainstate.transform.jit(self.step)

    def params(self) -> Any:
        """Give the present numbers."""
        return {name: self.weights[name].value for name in (CELL, READOUT)}

    def gradient(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Take one step; give the gradient and the loss."""

        def loss() -> Any:
            return -jax.nn.log_softmax(self.learner(x)[0])[y]

        pair: tuple[Any, Any] = brainstate.transform.grad(loss, self.weights, return_value=True)()
        return pair

    def step(self, x: Any, y: Any) -> Any:
        """Take one step and update; give the loss."""
        gradient, loss = self.gradient(x, y)
        for name in (CELL, READOUT):
            weight = self.weights[name]
            weight.value = jax.tree.map(lambda p, g: p - RATE * g, weight.value, gradient[name])
        return loss

    def _chunk(self, xs: Any, ys: Any) -> Any:
        return brainstate.transform.for_loop(self.step, xs, ys)


def transition(params: Any, state: Any, item: Any) -> tuple[Any, Any]:
    """Take one step of the same network, on the same numbers."""
    x, y = item
    cell, readout = params[CELL], params[READOUT]
    state = jnp.tanh(jnp.concatenate([x[0], state]) @ cell["weight"] + cell["bias"])
    logits = state @ readout["weight"] + readout["bias"]
    return state, -jax.nn.log_softmax(logits)[y]


def works(units: int, symbols: Any) -> list[tuple[str, Called, Called]]:
    """Make both, hold one against the other, and give what is to be timed."""
    xs = jnp.asarray(np.eye(ALPHABET, dtype=np.float32)[symbols[:-1]])[:, None]
    ys = jnp.asarray(symbols[1:])
    theirs, backend = Theirs(units, xs), JaxBackend()
    params, state = theirs.params(), jnp.zeros(units)
    dynamics = backend.dynamics(transition)
    _require_alike(theirs, dynamics, params, state, xs, ys)

    learner = Learner(dynamics, UORO(), SGD(RATE), params, state)

    class Stream:
        """The same items again and again."""

        def __iter__(self) -> Stream:
            return self

        def __next__(self) -> Any:
            raise StopIteration

        def take(self, count: int) -> Any:
            return xs, ys

    chunk = Called(CHUNK, lambda: learner.run(Stream(), CHUNK, chunk=CHUNK))
    their_chunk = Called(CHUNK, lambda: block(theirs.jitted_chunk(xs, ys)))

    # One jitted function a step, as one would put this library into a loop of one's own.
    update = Update(dynamics, UORO(), SGD(RATE))
    advance, key = jax.jit(update.advance), backend.key(0)
    items = [(xs[i], ys[i]) for i in range(16)]
    now = update.start(Progress(params, state, None, None), items[0])

    def calls() -> None:
        nonlocal now
        for i, item in enumerate(items):
            now, _, _ = advance(now, item, None, Clock(key, 0, i))
        block(now.params)

    def their_calls() -> None:
        loss = None
        for item in items:
            loss = theirs.jitted_step(*item)
        block((loss, theirs.params()))

    return [
        (f"{CHUNK} steps in one compiled loop", chunk, their_chunk),
        (
            "one compiled step a call, dispatch from Python included",
            Called(len(items), calls),
            Called(len(items), their_calls),
        ),
    ]


def _require_alike(
    theirs: Theirs, dynamics: Any, params: Any, state: Any, xs: Any, ys: Any
) -> None:
    """See that both run one model, and that what braintrace calls a gradient is one.

    Before anything is updated, the losses of some steps have to be equal; the readout's gradients
    of each step too, as no sign has to do with them; and the others finite and of the right shape.
    """
    estimator, backend = UORO(), dynamics.backend
    carry = estimator.init(dynamics, params, state)
    their_gradient = brainstate.transform.jit(theirs.gradient)
    for i in range(8):
        signs = estimator.draw(partial(backend.random, backend.fold(backend.key(0), i)), state)
        carry, state, estimate = estimator.step(
            dynamics, params, carry, state, (xs[i], ys[i]), signs
        )
        gradient, loss = their_gradient(xs[i], ys[i])
        np.testing.assert_allclose(float(loss), float(estimate.loss), rtol=1e-4)
        for name, leaves in estimate.gradient.items():
            for leaf, ours in leaves.items():
                its = np.asarray(gradient[name][leaf])
                assert its.shape == ours.shape, (name, leaf)
                assert np.isfinite(its).all(), (name, leaf)
                if name == READOUT:
                    np.testing.assert_allclose(its, np.asarray(ours), rtol=1e-3, atol=1e-5)
    theirs.learner.reset_state(batch_size=1)
