"""A T-maze: a sign at the entrance says which way to turn at the far end of a corridor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from uoro.arguments import require_count
from uoro.errors import spelled

OBSERVED = 3
"""Length of an observation."""

ACTIONS = 2
"""Left and right."""


class Maze(NamedTuple):
    """A place in a maze.

    Attributes:
        place: Number of steps from the entrance.
        side: Which way the reward lies: 0 for left, 1 for right.
    """

    place: Any
    side: Any


@dataclass(frozen=True)
class TMaze:
    """Episodes of a fixed length, whose last action is right or wrong, as the first item said.

    The agent walks by itself. It sees ``(cue, distractor, junction)``: the cue is -1 or 1 at the
    entrance and zero afterwards, the distractor is -1 or 1 at random, and the junction is 1 at the
    end of the corridor. There the action is rewarded by 1 if it turns the right way and by -1 if
    not, and the episode ends. All other actions do nothing. An agent without memory earns nothing
    on average.

    All methods are pure functions of one maze, written with ``+ - *`` and comparisons alone, so
    that they run on arrays of any backend, and under `jax.vmap`.

    Args:
        corridor: Number of steps from the entrance to the junction.

    Raises:
        SettingError: If the corridor is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from uoro.tasks import TMaze
        >>> game = TMaze(corridor=1)
        >>> maze = game.start(1)
        >>> game.observe(np, maze, 0).tolist()
        [1, -1, 0]
        >>> maze, _, _ = game.step(np, maze, 0)
        >>> game.observe(np, maze, 1).tolist()
        [0, 1, 1]
        >>> _, reward, ended = game.step(np, maze, 1)
        >>> int(reward), bool(ended)
        (1, True)

    References:
        Bakker, "Reinforcement learning with long short-term memory", NIPS 2001; there the agent
        walks.
    """

    corridor: int = 8

    def __post_init__(self) -> None:
        call = f"TMaze(corridor={spelled(self.corridor)})"
        require_count(call, "corridor", self.corridor)

    def start(self, side: Any) -> Maze:
        """Return the entrance of a maze; the side, 0 or 1, is drawn by the caller."""
        return Maze(side * 0, side)

    def observe(self, xp: Any, maze: Maze, coin: Any) -> Any:
        """Return what the agent sees, a vector of three; the coin, 0 or 1, is the distractor."""
        cue = (maze.place == 0) * (2 * maze.side - 1)
        return xp.stack([xp.asarray(x) for x in (cue, 2 * coin - 1, self._junction(maze) * 1)])

    def step(self, xp: Any, maze: Maze, action: Any) -> tuple[Maze, Any, Any]:
        """Return the next place, the reward, and whether the episode has ended.

        Args:
            xp: Namespace of the arrays.
            maze: Where the agent is.
            action: 0 or 1.
        """
        ended = self._junction(maze)
        reward = ended * (1 - 2 * (action != maze.side))
        return maze._replace(place=maze.place + 1), reward, ended

    def _junction(self, maze: Maze) -> Any:
        return maze.place == self.corridor
