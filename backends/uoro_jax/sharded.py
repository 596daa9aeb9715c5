"""Parallel streams, distributed over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uoro.arguments import mismatch, require_count, require_estimator, require_kind, require_stack
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Outcome
from uoro.errors import SettingError, spelled
from uoro.estimator import Estimate, Estimator, Guarantee, Sampler, guarantee_of
from uoro.estimators.streams import Streams
from uoro.prediction import Prediction
from uoro_jax.devices import spell_devices
from uoro_jax.trees import widen

_spec: Any = PartitionSpec
_pmean: Any = lax.pmean
_psum: Any = lax.psum
_constrain: Any = lax.with_sharding_constraint
_whole = _spec()


@dataclass(frozen=True)
class ShardedStreams:
    """Run B streams on several devices; results equal those of `Streams`, up to rounding.

    Each device runs ``B / devices`` streams and holds their states, items, signs and carries, which
    never leave the device. The params and the gradient are replicated. Devices exchange the loss
    and the gradient once per step, to average them.

    The signs are those of `Streams`: results do not depend on the number of devices, except for
    the order of sums.

    Args:
        estimator: Estimator to run on each stream.
        count: Number of streams B, a multiple of the number of devices.
        mesh: Devices: ``jax.make_mesh((8,), ("streams",))``.
        axis: Axis of the mesh that the streams are distributed along; the only axis if ``None``.
            Along any other axis the work is repeated.

    Raises:
        SettingError: If the count is no multiple of the number of devices, the mesh has no such
            axis, or an argument has the wrong type.

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
            hint = "Name the axis that the streams are distributed along: axis=..."
            raise SettingError(mismatch(self._call, "mesh", "one axis", str(names), hint))
        if self.axis is not None and not (isinstance(self.axis, str) and self.axis in names):
            expected, hint = f"one of {names}", "A mesh with one axis needs no axis=..."
            raise SettingError(mismatch(self._call, "axis", expected, spelled(self.axis), hint))
        if self.count % self._devices:
            least = self._devices * -(-self.count // self._devices)
            expected = f"a multiple of {self._devices} devices"
            hint = f"Try count={least}, or a mesh of fewer devices."
            raise SettingError(mismatch(self._call, "count", expected, str(self.count), hint))

    @property
    def guarantee(self) -> Guarantee:
        """The guarantee of the estimator, which holds for the average too."""
        return guarantee_of(self.estimator)

    @property
    def rows(self) -> range:
        """Numbers of the streams that this process runs: all."""
        return range(self.count)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Build the carry of each stream, on the stream's device.

        Args:
            dynamics: Dynamics of one stream.
            params: Parameters, shared by all streams.
            state: Stack of B states.
            inputs: Stack of B items, if the estimator needs one.

        Raises:
            SettingError: If an array is committed to other devices than those of the mesh.
            StructureError: If a stack does not have B rows.
        """
        self._require_stack(dynamics.backend, state, "init(state)")
        self._require_stack(dynamics.backend, inputs, "init(inputs)")
        self._require_here(params, state, inputs)
        return self._init(dynamics, params, state, inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw what `Streams` draws; each device draws all signs, and nothing is sent."""
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
        """Advance each stream on its device, and average over all streams.

        Returns:
            The stacks of next carries and next states, and one `Estimate`: mean loss, mean
            gradient, and the stack of aux.

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

    def advance(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance each stream on its device; the arguments are those of `Streams.advance`."""
        for tree, what in zip(stacks[1:3], ("state", "inputs"), strict=True):
            self._require_stack(dynamics.backend, tree, f"step({what})")

        def one(params: Any, *stacks: Any) -> Any:
            *after, made = self._alone.advance(dynamics, params, *stacks)
            return *after, (made.output, made.aux)

        after, next_state, made = self._on_each(one, self._split)(params, *stacks)
        prediction = Prediction(
            dynamics.backend,
            Outcome(next_state, *made),
            lambda cotangent: self.gradient(dynamics, params, *stacks[:3], cotangent),
        )
        return after, next_state, prediction

    def gradient(self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any) -> Any:
        """Sum over devices what `Streams.gradient` returns, from the same arguments."""

        def one(params: Any, *stacks: Any) -> Any:
            gradient = self._alone.gradient(dynamics, params, *stacks)
            return jax.tree.map(
                lambda leaf: _psum(widen(leaf), self._axis).astype(leaf.dtype), gradient
            )

        return self._on_each(one, _whole)(params, *stacks)

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
        """Restart some streams, each on its device, as `Streams.reset` specifies.

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
        # Compiled, so that no stack is ever whole on one device.
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
        """Run a function of the params and of stacks on every device, on the device's rows."""

        def mapped(params: Any, *stacks: Any) -> Any:
            # Unchecked, a derivative by the params is that of this device's streams alone. Checked,
            # JAX would sum the derivative over the devices, and with it the pairs.
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
        # JAX shards along the axes of a mesh built here by itself. Along the axes of a mesh from
        # `jax.make_mesh`, the user would have to shard every array beforehand.
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
        """The streams of one device."""
        return Streams(self.estimator, self.count // self._devices)

    @property
    def _call(self) -> str:
        return f"ShardedStreams(count={spelled(self.count)}, mesh=..., axis={spelled(self.axis)})"

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        require_stack(backend, tree, self.count, f"ShardedStreams(count={self.count}).{what}")

    def _require_here(self, *trees: Any) -> None:
        """Check that no array is committed to other devices than those of the mesh."""
        mine = set(self.mesh.devices.flat)
        for leaf in jax.tree.leaves(trees):
            if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer) or not leaf.committed:
                continue
            theirs = leaf.sharding.device_set
            if theirs != mine:
                expected = f"arrays on {spell_devices(mine)}, the devices of the mesh"
                got = f"an array on {spell_devices(theirs)}"
                hint = "Use a backend without device=..., or arrays that are not committed."
                raise SettingError(mismatch(self._call, "", expected, got, hint))
