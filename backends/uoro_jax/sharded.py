"""Parallel streams, distributed over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uoro.arguments import mismatch, require_kind
from uoro.dynamics import Dynamics, Outcome
from uoro.errors import SettingError, spelled
from uoro.estimator import Sampler
from uoro.estimators.streams import SPLIT, Streams
from uoro.prediction import Prediction
from uoro_jax.devices import spell_devices
from uoro_jax.trees import widen

_spec: Any = PartitionSpec
_constrain: Any = lax.with_sharding_constraint
_whole = _spec()


@dataclass(frozen=True)
class ShardedStreams(Streams):
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

    mesh: Mesh
    _: KW_ONLY
    axis: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        call = f"ShardedStreams(count={spelled(self.count)}, mesh=..., axis={spelled(self.axis)})"
        hint = 'Build one: jax.make_mesh((8,), ("streams",)).'
        require_kind(call, "mesh", self.mesh, Mesh, "a jax.sharding.Mesh", hint)
        names = self.mesh.axis_names
        if self.axis is None and len(names) != 1:
            hint = "Name the axis that the streams are distributed along: axis=..."
            raise SettingError(mismatch(call, "mesh", "one axis", str(names), hint))
        if self.axis is not None and not (isinstance(self.axis, str) and self.axis in names):
            expected, hint = f"one of {names}", "A mesh with one axis needs no axis=..."
            raise SettingError(mismatch(call, "axis", expected, spelled(self.axis), hint))
        devices: int = self.mesh.shape[self._axis]
        if self.count % devices:
            least = devices * -(-self.count // devices)
            expected = f"a multiple of {devices} devices"
            hint = f"Try count={least}, or a mesh of fewer devices."
            raise SettingError(mismatch(call, "count", expected, str(self.count), hint))

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Build the carry of each stream, on the stream's device; see `Streams.init`.

        Raises:
            SettingError: If an array is committed to other devices than those of the mesh.
            StructureError: If a stack does not have B rows.
        """
        self._require_here(params, state, inputs)
        # Compiled, so that no stack is ever whole on one device.
        return self._compiled("init")(dynamics, params, state, inputs=inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw what `Streams` draws; each device draws all signs, and nothing is sent."""
        return _constrain(super().draw(sampler, state), NamedSharding(self._mesh, _whole))

    def advance(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance each stream on its device; see `Streams.advance`."""
        for tree, what in zip(stacks[1:3], ("state", "inputs"), strict=True):
            self._require_stack(dynamics.backend, tree, f"step({what})")

        def one(params: Any, *stacks: Any) -> Any:
            *after, made = self._advance_here(dynamics, params, *stacks)
            return *after, (made.output, made.aux)

        after, next_state, made = self._place(one, SPLIT)(params, *stacks)
        prediction = Prediction(
            dynamics.backend,
            Outcome(next_state, *made),
            lambda cotangent: self.gradient(dynamics, params, *stacks[:3], cotangent),
        )
        return after, next_state, prediction

    def reset(self, dynamics: Dynamics[Any, Any, Any], *given: Any, **inputs: Any) -> Any:
        """Restart some streams, each on its device; see `Streams.reset`."""
        return self._compiled("reset")(dynamics, *given, **inputs)

    def _compiled(self, name: str) -> Callable[..., Any]:
        """Return a method of `Streams`, compiled for each model."""
        if name not in self._programs:
            method = partial(getattr(super(), name))
            self._programs[name] = jax.jit(method, static_argnums=0)
        return self._programs[name]

    @cached_property
    def _programs(self) -> dict[str, Callable[..., Any]]:
        return {}

    def _place(self, function: Callable[..., Any], results: Any) -> Callable[..., Any]:
        """Run a function of the params and of stacks on every device, on the device's rows."""
        split = _spec(self._axis)
        specs = jax.tree.map(lambda lies: split if lies == SPLIT else _whole, results)

        def mapped(params: Any, *stacks: Any) -> Any:
            # Unchecked, a derivative by the params is that of this device's streams alone. Checked,
            # JAX would sum the derivative over the devices, and with it the pairs.
            return jax.shard_map(
                function,
                mesh=self._mesh,
                in_specs=(_whole, *[split] * len(stacks)),
                out_specs=specs,
                check_vma=False,
            )(params, *stacks)

        return mapped

    def _average(self, tree: Any) -> Any:
        return self._over_devices(lax.pmean, tree)

    def _add(self, tree: Any) -> Any:
        return self._over_devices(lax.psum, tree)

    def _over_devices(self, collect: Callable[..., Any], tree: Any) -> Any:
        return jax.tree.map(lambda leaf: collect(widen(leaf), self._axis).astype(leaf.dtype), tree)

    @cached_property
    def _mesh(self) -> Mesh:
        # JAX shards along the axes of a mesh built here by itself. Along the axes of a mesh from
        # `jax.make_mesh`, the user would have to shard every array beforehand.
        return Mesh(self.mesh.devices, self.mesh.axis_names)

    @property
    def _axis(self) -> str:
        return self.axis if self.axis is not None else self.mesh.axis_names[0]

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
