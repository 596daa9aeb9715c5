"""JAX: an actor-critic with a memory that never unrolls, TD(λ) over online gradients, in a T-maze.

python actor_critic.py                     # joint UORO and one-step truncation, one seed
python actor_critic.py --figure FOLDER     # four estimators, five seeds each: PNG and JSON
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from uoro_jax import JaxBackend

from uoro import RTRL, UORO, JointUORO
from uoro.estimators import Traces, Truncated
from uoro.tasks import TMaze
from uoro.tasks.tmaze import ACTIONS, OBSERVED

AGENTS, UNITS, CORRIDOR, STEPS, WINDOW = 16, 16, 8, 16_000, 500
DISCOUNT, DECAY, RATE = 0.95, 0.9, 1.5e-3
ESTIMATORS = {
    "RTRL": RTRL(),
    "joint UORO, 8 pairs": JointUORO(8),
    "UORO": UORO(),
    "one-step truncation": Truncated(),
}
GAME = TMaze(CORRIDOR)


class Loop(NamedTuple):
    """What goes from step to step; all but params and moments is a stack of agents."""

    params: Any
    moments: Any
    traced: Any
    state: Any
    maze: Any
    value: Any
    reward: Any
    ended: Any


def network(params, state, seen):
    """One step of a recurrent network; policy and value are read from what it remembers."""
    output = {"logits": params["policy"] @ state, "value": params["value"] @ state}
    return jnp.tanh(params["recurrent"] @ state + params["input"] @ seen), output


def initial(key):
    keys = jax.random.split(key, 2)
    orthogonal = jnp.linalg.qr(jax.random.normal(keys[0], (UNITS, UNITS)))[0]
    return {
        "recurrent": 0.4 * orthogonal,
        "input": jax.random.normal(keys[1], (UNITS, OBSERVED)),
        "policy": jnp.zeros((ACTIONS, UNITS)),
        "value": jnp.zeros(UNITS),
    }


def build(estimator):
    """Return ``start(keys)`` and ``run(loop, keys) -> (loop, rewards)``, mapped over seeds."""
    model = JaxBackend().dynamics(network)
    traces, optimizer = Traces(estimator, DISCOUNT, DECAY), optax.adam(RATE)
    rest = jnp.zeros(UNITS)

    def live(params, key, traced, state, maze, ended):
        """Let one agent see, act, and remember how its output depends on the params."""
        chance = jax.random.split(key, 4)
        traced, state = traces.reset(model, params, traced, state, ended, rest)
        entrance = GAME.start(jax.random.bernoulli(chance[0]).astype(int))
        maze = jax.tree.map(lambda new, old: jnp.where(ended, new, old), entrance, maze)
        seen = GAME.observe(jnp, maze, jax.random.bernoulli(chance[1]).astype(float))

        def chosen(output):
            return jax.random.categorical(chance[2], output["logits"])

        def cotangent(output):
            score = jax.nn.one_hot(chosen(output), ACTIONS) - jax.nn.softmax(output["logits"])
            return {"logits": score, "value": jnp.ones(())}

        signs = traces.draw(partial(model.backend.random, chance[3]), state)
        traced, state, output = traces.step(model, params, traced, state, seen, signs, cotangent)
        maze, reward, ended = GAME.step(jnp, maze, chosen(output))
        return traced, state, maze, output["value"], reward.astype(float), ended

    def step(loop, key):
        keys = jax.random.split(key, AGENTS)
        own = loop.traced, loop.state, loop.maze, loop.ended
        traced, state, maze, value, *earned = jax.vmap(partial(live, loop.params))(keys, *own)
        # The TD error of the step before, now that the next value is known.
        error = loop.reward + DISCOUNT * jnp.where(loop.ended, 0.0, value) - loop.value
        ascent = jax.tree.map(lambda z: -jnp.tensordot(error, z, 1) / AGENTS, loop.traced.trace)
        updates, moments = optimizer.update(ascent, loop.moments)
        params = optax.apply_updates(loop.params, updates)
        return Loop(params, moments, traced, state, maze, value, *earned), loop.reward.sum()

    def start(key):
        params, state = initial(key), jnp.zeros((AGENTS, UNITS))
        traced = jax.vmap(lambda s: traces.init(model, params, s))(state)
        zero = jnp.zeros(AGENTS)
        # Every agent starts elsewhere in the corridor, so that they do not end together.
        maze = GAME.start(jnp.zeros(AGENTS, int))._replace(place=jnp.arange(AGENTS) % CORRIDOR)
        return Loop(
            params, optimizer.init(params), traced, state, maze, zero, zero, jnp.zeros(AGENTS, bool)
        )

    run = jax.vmap(partial(jax.lax.scan, step))
    return jax.jit(jax.vmap(start)), jax.jit(run)


def rewards(estimator, seeds, steps=STEPS):
    """Return the mean reward of an episode, from -1 to 1: a row per seed, a column per window."""
    start, run = build(estimator)
    loop = start(jax.vmap(jax.random.key)(jnp.arange(seeds)))
    keys = jax.random.split(jax.random.key(1), (steps // WINDOW, seeds, WINDOW))
    earned = []
    for chunk in keys:
        loop, sums = run(loop, chunk)
        earned.append(sums.sum(1) * (CORRIDOR + 1) / (AGENTS * WINDOW))
    return np.stack(earned, 1)


def draw(folder, seeds, steps):
    """Run every estimator, and write a figure and its numbers."""
    from uoro.drawing import figure, style
    from uoro.files.results import made_with, write_document

    document = {
        "task": f"T-maze, corridor of {CORRIDOR}",
        "agents": AGENTS,
        "steps": steps,
        "window": WINDOW,
        "made with": made_with("jax"),
        "rewards": {},
    }
    with figure(folder / "actor_critic.png", len(ESTIMATORS)) as panels:
        for number, (name, estimator) in enumerate(ESTIMATORS.items()):
            earned = rewards(estimator, seeds, steps)
            document["rewards"][name] = earned.round(4).tolist()
            solved = int((earned[:, -4:].mean(1) > 0.9).sum())
            print(f"{name}: {solved} of {seeds} seeds above 0.9 at the end", flush=True)
            panel, line = panels[number], style(number)
            at = np.arange(1, earned.shape[1] + 1) * WINDOW
            for row in earned:
                panel.plot(at, row, **line, linewidth=1)
            panel.set(title=name, xlabel="step", ylim=(-0.3, 1.05))
        panels[0].set_ylabel("mean reward")
    write_document(folder / "actor_critic.json", document)


def main():
    parser = argparse.ArgumentParser(description="An actor-critic that never unrolls.")
    parser.add_argument("--figure", type=Path, metavar="FOLDER", help="all estimators, five seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    if given.figure is not None:
        draw(given.figure, given.seeds, given.steps)
        return
    wrong = (1 - rewards(ESTIMATORS["RTRL"], given.seeds, 4_000).mean(0)) / 2
    print(f"wrong turns: {wrong[:2].mean():.3f} at first, {wrong[-2:].mean():.3f} at last")


if __name__ == "__main__":
    main()
