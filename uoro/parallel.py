"""Parallel streams: shared params, and for each stream its own state and its own memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.algebra import leaf_name, mean, select
from uoro.backend import Backend, Law, Tree
from uoro.dynamics import Dynamics
from uoro.errors import StructureError, require_count
from uoro.estimator import Estimand, Estimate, Estimator, Sampler


@dataclass(frozen=True)
class Streams:
    """Run an estimator on B streams at once and average their gradients.

    State, inputs, memory and noise are stacks of B; the params are shared. Each stream has its
    own memory: one pair shared by all would multiply the relative variance by about B.

    The transition is written for one stream; the backend maps it over all of them.

    Args:
        estimator: What to run on each stream.
        count: B.

    Raises:
        SettingError: If the count is not a positive integer.
    """

    estimator: Estimator
    count: int

    def __post_init__(self) -> None:
        require_count(f"Streams(count={self.count!r})", "count", self.count)

    @property
    def estimand(self) -> Estimand:
        """What the estimator claims holds of the average too."""
        return self.estimator.estimand

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Make a memory for each stream.

        Args:
            dynamics: The model of one stream.
            params: Shared.
            state: A stack of B states.
            inputs: A stack of B items, where the estimator needs one.
        """
        self._require_stack(dynamics.backend, state, "init(state)")
        if inputs is None:
            return dynamics.backend.vmap(lambda s: self.estimator.init(dynamics, params, s))(state)
        self._require_stack(dynamics.backend, inputs, "init(inputs)")
        return dynamics.backend.vmap(
            lambda s, i: self.estimator.init(dynamics, params, s, inputs=i)
        )(state, inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw independent noise for each stream."""

        def per_stream(like: Tree, law: Law, batch: tuple[int, ...] = (), stacked: int = 0) -> Tree:
            return sampler(like, law, batch, stacked + 1)

        return self.estimator.draw(per_stream, state)

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        memory: Any,
        state: Any,
        inputs: Any,
        noise: Any,
    ) -> tuple[Any, Any, Estimate]:
        """Advance every stream.

        Returns:
            The stacks of next memories and states, and one estimate: mean loss, mean gradient,
            and the stack of aux.
        """
        self._require_stack(dynamics.backend, state, "step(state)")
        self._require_stack(dynamics.backend, inputs, "step(inputs)")

        def one(memory: Any, state: Any, inputs: Any, noise: Any) -> Any:
            return self.estimator.step(dynamics, params, memory, state, inputs, noise)

        memory, state, each = dynamics.backend.vmap(one)(memory, state, inputs, noise)
        average = Estimate(each.loss.mean(), mean(dynamics.backend, each.gradient), each.aux)
        return memory, state, average

    def reset(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        memory: Any,
        state: Any,
        mask: Any,
        fresh: Any,
        *,
        inputs: Any = None,
    ) -> tuple[Any, Any]:
        """Start some streams anew: their state becomes ``fresh``, their memory the initial one.

        Args:
            dynamics: The model of one stream.
            params: Shared.
            memory: The stack of memories.
            state: The stack of states.
            mask: An array of B booleans; true where a stream starts anew.
            fresh: A stack of B states to start from.
            inputs: A stack of B items, where the estimator needs one.

        Returns:
            The memories and the states; those of the other streams are unchanged.
        """
        backend = dynamics.backend
        mask = backend.from_host(mask)
        self._require_stack(backend, mask, "reset(mask)")
        self._require_stack(backend, fresh, "reset(fresh)")
        anew = self.init(dynamics, params, fresh, inputs=inputs)
        return select(backend, mask, anew, memory), select(backend, mask, fresh, state)

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        """Refuse a tree some leaf of which does not have `count` rows."""
        for name, leaf in backend.named_leaves(tree):
            if not leaf.shape or leaf.shape[0] != self.count:
                raise StructureError(
                    f"Streams(count={self.count}).{what}: {leaf_name(name)} has shape "
                    f"{tuple(leaf.shape)}, wanted is a leading axis of {self.count}. Give one row "
                    "for each stream."
                )
