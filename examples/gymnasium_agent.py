"""An actor-critic with a memory plays an environment in Gymnasium's form, and learns at every step.

The environment is a T-maze: a cue at the entrance says which way to turn at the far end. The TD
error of a step needs the value of the next one, so every output waits a step for its loss. The
gradient goes through all steps of the episode, and nothing is unrolled.
"""

import numpy as np
import torch
from torch import nn
from uoro_torch import Online

from uoro.tasks import TMaze


class Maze:
    """`uoro.tasks.TMaze` with the methods of a Gymnasium environment."""

    game, random = TMaze(corridor=2), np.random.default_rng(0)

    def reset(self):
        self.maze = self.game.start(self.random.integers(2))
        return self.observe(), {}

    def step(self, action):
        self.maze, reward, ended = self.game.step(np, self.maze, action)
        return self.observe(), float(reward), bool(ended), False, {}

    def observe(self):
        return self.game.observe(np, self.maze, self.random.integers(2)).astype(np.float32)


def learn(hidden, action, aim):
    """Move the value of a step to its aim, and the policy along the TD error."""
    *_, value = output = heads(hidden)
    error = aim - value
    (error.square() - error.detach() * output[:2].log_softmax(0)[action]).backward()
    optimizer.step()
    optimizer.zero_grad()


torch.manual_seed(0)
env, core, heads = Maze(), nn.GRUCell(3, 8), nn.Linear(8, 3)  # two logits and a value
optimizer = torch.optim.Adam([*core.parameters(), *heads.parameters()], lr=1e-2)
online, rewards = Online.for_module(core), []
for _ in range(150):
    online.reset()
    (seen, _), reward, ended, cut, before = env.reset(), 0.0, False, False, None
    while not (ended or cut):
        hidden = online(torch.from_numpy(seen))
        *logits, value = heads(hidden).detach()
        if before:
            learn(*before, reward + 0.9 * value)
        before = hidden, int(torch.stack(logits).softmax(0).multinomial(1))
        seen, reward, ended, cut, _ = env.step(before[1])
    following = heads(online.peek(torch.from_numpy(seen)))[2].detach()
    learn(*before, reward + 0.9 * (not ended) * following)
    rewards.append(reward)

wrong = (1 - np.array(rewards)) / 2
print(f"wrong turns: {wrong[:40].mean():.3f} at first, {wrong[-40:].mean():.3f} at last")
