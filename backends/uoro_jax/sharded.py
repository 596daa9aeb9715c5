"""Parallel streams shared out over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uoro.arguments import require_count, require_estimator, require_kind, require_stack
from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, spelled
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler, guarantee_of
from uoro.estimators.streams import Streams
from uoro_jax.trees import widen

_spec: Any = PartitionSpec
_pmean: Any = lax.pmean
_constrain: Any = lax.with_sharding_constraint
_whole = _spec()


@dataclass(frozen=True)
class ShardedStreams:
    """Run B streams on several devices: what `Streams` does, and gives, to rounding.

    Every device runs ``B / devices`` of the streams, and has their states, items, noise and pairs
    (s̃, θ̃), which nothing moves. The params and the gradient are on all of them. Between devices
    go the loss and the gradient, once a step, to be averaged.

    The signs are those of `Streams`: results do not depend on how many devices there are, but for
    the order of sums.

    Args:
        estimator: What to run on each stream.
        count: B, a multiple of the number of devices.
        mesh: The devices: ``jax.make_mesh((8,), ("streams",))``.
        axis: Along which axis of the mesh the streams are shared out. Its only one if not given;
            along any other the work is repeated.

    Raises:
        SettingError: If the count is no such multiple, the mesh has no such axis, or one of the
            things given is not what it is to be.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from uoro import SGD, UORO, Learner
        >>> from uoro_jax import JaxBackend, ShardedStreams
        >>> def transition(theta, state, target):
        ...     next_state = 0.5 * state + theta
        ...     return next_state, 0.5 * jnp.sum((next_state - target) ** 2)
        >>> mesh = jax.make_mesh((jax.device_count(),), ("streams",))
        >>> streams = 4 * jax.device_count()
        >>> learner = Learner(JaxBackend().dynamics(transition),
        ...                   ShardedStreams(UORO(), streams, mesh), SGD(0.01),
        ...                   jnp.array(0.0), jnp.zeros((streams, 3)))
        >>> summary = learner.run([jnp.ones(streams)] * 200)
        >>> bool(abs(learner.params - 0.5) < 0.01)
        True
    """

    estimator: Estimator
    count: int
    mesh: Mesh
    _: KW_ONLY
    axis: str | None = None

    def __post_init__(self) -> None:
        require_count(f"ShardedStreams(count={spelled(self.count)})", "count", self.count)
        require_estimator(self._call, self.estimator)
        hint = 'Build one: jax.make_mesh((8,), ("streams",)).'
        require_kind(self._call, "mesh", self.mesh, Mesh, "a jax.sharding.Mesh", hint)
        names = self.mesh.axis_names
        if self.axis is None and len(names) != 1:
            raise SettingError(
                f"{self._call}: the mesh has the axes {names}. Say along which of them the "
                "streams are shared out: axis=..."
            )
        if self.axis is not None and not (isinstance(self.axis, str) and self.axis in names):
            raise SettingError(
                f"{self._call}: the mesh has no axis {spelled(self.axis)}, it has {names}. Take "
                "one of them, or leave axis out where there is one alone."
            )
        if self.count % self._devices:
            least = self._devices * -(-self.count // self._devices)
            raise SettingError(
                f"{self._call}: {self.count} streams cannot be shared out evenly over "
                f"{self._devices} devices. Wanted is a multiple, such as count={least}, or a mesh "
                "of fewer devices."
            )

    @property
    def guarantee(self) -> Guarantee:
        """What the estimator claims holds of the average too."""
        return guarantee_of(self.estimator)

    @property
    def rows(self) -> range:
        """All streams are run from here."""
        return range(self.count)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Make a memory for each stream, on its device.

        Args:
            dynamics: The model of one stream.
            params: Shared.
            state: A stack of B states.
            inputs: A stack of B items, where the estimator needs one.

        Raises:
            SettingError: If an array was put on other devices than those of the mesh.
            StructureError: If a stack does not have B rows.
        """
        self._require_stack(dynamics.backend, state, "init(state)")
        self._require_stack(dynamics.backend, inputs, "init(inputs)")
        self._require_here(params, state, inputs)
        return self._init(dynamics, params, state, inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw what `Streams` draws; each device draws all of it, and nothing is sent."""
        drawn = Streams(self.estimator, self.count).draw(sampler, state)
        return _constrain(drawn, NamedSharding(self._mesh, _whole))

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Estimate]:
        """Advance every stream on its device, and average over all of them.

        Returns:
            The stacks of next memories and states, and one estimate: mean loss, mean gradient,
            and the stack of aux.

        Raises:
            StructureError: If a stack does not have B rows.
        """
        self._require_stack(dynamics.backend, state, "step(state)")
        self._require_stack(dynamics.backend, inputs, "step(inputs)")

        def one(params: Any, *stacks: Any) -> Any:
            carry, state, estimate = self._alone.step(dynamics, params, *stacks)
            loss, gradient = jax.tree.map(
                lambda leaf: _pmean(widen(leaf), self._axis).astype(leaf.dtype),
                (estimate.loss, estimate.gradient),
            )
            return carry, state, Estimate(loss, gradient, estimate.aux)

        estimates: Any = Estimate(_whole, _whole, self._split)
        results = (self._split, self._split, estimates)
        stepped = self._on_each(one, results)(params, carry, state, inputs, signs)
        after: tuple[Any, Any, Estimate] = stepped
        return after

    def reset(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        mask: Any,
        fresh: Any,
        *,
        inputs: Any = None,
    ) -> tuple[Any, Any]:
        """Start some streams anew, each on its device; `Streams.reset` says how.

        Raises:
            StructureError: If a stack does not have B rows.
        """
        mask = dynamics.backend.from_host(mask)
        self._require_stack(dynamics.backend, mask, "reset(mask)")
        self._require_stack(dynamics.backend, fresh, "reset(fresh)")
        after: tuple[Any, Any] = self._reset(dynamics, params, carry, state, mask, fresh, inputs)
        return after

    @cached_property
    def _init(self) -> Callable[..., Any]:
        # Compiled, so that nothing is ever whole on one device.
        def init(dynamics: Any, params: Any, state: Any, inputs: Any) -> Any:
            def one(params: Any, state: Any, inputs: Any) -> Any:
                return self._alone.init(dynamics, params, state, inputs=inputs)

            return self._on_each(one, self._split)(params, state, inputs)

        return jax.jit(init, static_argnums=0)

    @cached_property
    def _reset(self) -> Callable[..., Any]:
        def reset(dynamics: Any, params: Any, *stacks: Any) -> Any:
            def one(params: Any, *stacks: Any) -> Any:
                *others, inputs = stacks
                return self._alone.reset(dynamics, params, *others, inputs=inputs)

            return self._on_each(one, self._split)(params, *stacks)

        return jax.jit(reset, static_argnums=0)

    def _on_each(self, function: Callable[..., Any], results: Any) -> Callable[..., Any]:
        """Run a function of the params and of stacks on every device, with its rows."""

        def mapped(params: Any, *stacks: Any) -> Any:
            # Unchecked, a derivative by the params is that of this device's streams alone;
            # checked, JAX would sum it over the devices, and with it the pairs.
            return jax.shard_map(
                function,
                mesh=self._mesh,
                in_specs=(_whole, *[self._split] * len(stacks)),
                out_specs=results,
                check_vma=False,
            )(params, *stacks)

        return mapped

    @cached_property
    def _mesh(self) -> Mesh:
        # A mesh made anew has axes that JAX shards along by itself; `jax.make_mesh` gives ones
        # along which every array, the user's too, would have to be sharded beforehand.
        return Mesh(self.mesh.devices, self.mesh.axis_names)

    @property
    def _axis(self) -> str:
        return self.axis if self.axis is not None else self.mesh.axis_names[0]

    @property
    def _devices(self) -> int:
        devices: int = self.mesh.shape[self._axis]
        return devices

    @property
    def _split(self) -> Any:
        return _spec(self._axis)

    @property
    def _alone(self) -> Streams:
        """What one device runs."""
        return Streams(self.estimator, self.count // self._devices)

    @property
    def _call(self) -> str:
        return f"ShardedStreams(count={spelled(self.count)}, mesh=..., axis={spelled(self.axis)})"

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        require_stack(backend, tree, self.count, f"ShardedStreams(count={self.count}).{what}")

    def _require_here(self, *trees: Any) -> None:
        """Refuse arrays that were put on other devices than those of the mesh."""
        mine = set(self.mesh.devices.flat)
        for leaf in jax.tree.leaves(trees):
            if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer) or not leaf.committed:
                continue
            theirs = leaf.sharding.device_set
            if theirs != mine:
                raise SettingError(
                    f"{self._call}: an array was put on {_spelled(theirs)}, and the mesh is of "
                    f"{_spelled(mine)}. Take a backend without device=..., or arrays that were "
                    "not put anywhere."
                )


def _spelled(devices: set[Any]) -> str:
    return ", ".join(sorted(f"{device.platform}:{device.id}" for device in devices))
