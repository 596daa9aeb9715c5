"""The influence of a model's params on their own units: one number for each entry and coordinate.

Where no unit moves another one, an entry of the params that moves one unit within a step moves no
other unit later. Its influence on the b coordinates of its unit is then all of its influence:

    e_j' = Σ_l D_jl[u] e_l + E_j,

where u is the unit that the entry moves, D_jl the derivative of coordinate j of the units by
coordinate l of the same units, and E_j the immediate derivative of coordinate j.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, TypeAlias

from uoro.algebra import coordinates, nonzero, shaped, where
from uoro.arguments import mismatch, require_item, require_model
from uoro.backend import Backend
from uoro.derivatives.finding_locality import find_locality
from uoro.derivatives.locality import Colour, Locality, Units
from uoro.dynamics import Dynamics, Inputs, Moment, Params, State
from uoro.errors import StructureError
from uoro.estimator import Sampler
from uoro.prediction import Stepping

LocalInfluence: TypeAlias = dict[str, Any]
"""By the name of each leaf that reaches the state: a stack shaped like the leaf, with an entry for
each colour of `Locality.carried`."""


def no_influence(backend: Backend, locality: Locality, params: Any) -> LocalInfluence:
    """Return the influence of zero."""
    found = LocalInfluence()
    for leaf, (name, value) in zip(locality.leaves, backend.named_leaves(params), strict=True):
        if carried := locality.carried(leaf):
            found[name] = backend.zeros(value, batch=(len(carried),))
    return found


def along(row: Any, colour: Colour) -> Any:
    """Return the entries of one coordinate of all units, of a row or of a stack of rows."""
    return row[..., colour.columns]


def at_units(xp: Any, numbers: Any, units: Units) -> Any:
    """Return the number of the unit of each entry of a leaf, ready to be multiplied with it.

    It is zero for an entry that moves several units. The numbers are put together from slices: no
    step looks each of them up.
    """
    pieces = [
        numbers[start : start + count] if start >= 0 else xp.zeros_like(numbers[:count])
        for start, count in _runs(units.numbers, len(numbers))
    ]
    row = pieces[0] if len(pieces) == 1 else xp.concatenate(pieces)
    return row.reshape(units.shape)


@cache
def _runs(index: tuple[int, ...], most: int) -> list[tuple[int, int]]:
    """Split numbers into runs of successive ones, or of -1: the first of each, and its length."""
    runs = list[tuple[int, int]]()
    for number in index:
        start, count = runs[-1] if runs else (0, 0)
        follows = number == (start + count if start >= 0 else -1)
        if runs and follows and count < most:
            runs[-1] = start, count + 1
        else:
            runs.append((number, 1))
    return runs


def push_rows(dynamics: Dynamics[Any, Any, Any], point: Moment, rows: Any) -> Any:
    """Return the JVPs of several rows of coordinates of the state, as a matrix."""
    backend = dynamics.backend
    tangents = shaped(backend, rows, backend.zeros(point.state))
    pushed = backend.vmap(lambda v: dynamics.jvp(*point, v)[0])(tangents)
    return coordinates(backend, pushed)


def pull_rows(backend: Backend, pullback: Any, state: Any, rows: Any) -> dict[str, Any]:
    """Return the VJPs of several rows of coordinates: for each leaf of the params a stack."""
    cotangents = shaped(backend, rows, backend.zeros(state))
    pulled = backend.vmap(lambda v: pullback(v, None)[0])(cotangents)
    return dict(backend.named_leaves(pulled))


def blocks_of(pushed: Any, locality: Locality) -> dict[tuple[int, int], Any]:
    """Return D, from the JVPs of the selectors of all colours: exact where no units mix.

    Args:
        pushed: A matrix, the JVP of each row of `Locality.selectors`.
        locality: The locality of the model.
    """
    pairs = locality.own_pairs
    return {(j, source): along(pushed[source], locality.colours[j]) for j, source in pairs}


def advance_local(
    backend: Backend,
    locality: Locality,
    blocks: Mapping[tuple[int, int], Any],
    carry: LocalInfluence,
    fresh: Mapping[str, Any],
) -> LocalInfluence:
    """Advance the influence by one step.

    Args:
        backend: Backend of all arrays.
        locality: The locality of the model.
        blocks: D, one number for each unit, by pairs of colours.
        carry: The influence before the step.
        fresh: E: for each leaf, by name, a stack with an entry for each colour of the model.

    Returns:
        The influence after the step, in the dtypes of the one before.
    """
    after = LocalInfluence()
    for leaf in locality.leaves:
        if leaf.name not in carry:
            continue
        carried = locality.carried(leaf)
        rows = dict(zip(carried, carry[leaf.name], strict=True))
        # An influence of zero is passed on as zero, even where a derivative is infinite.
        alive = {each: nonzero(backend, row, stacked=False) for each, row in rows.items()}
        stack = []
        for j, units in carried.items():
            total: Any = 0.0 * rows[j]
            if j in leaf.moves:
                total = fresh[leaf.name][j]
                if not leaf.moves[j].all_local:
                    ones = backend.from_host(backend.xp.ones(locality.colours[j].total))
                    total = total * at_units(backend.xp, ones, leaf.moves[j])
            for source, row in rows.items():
                if (j, source) in blocks:
                    factor = backend.xp.where(alive[source], blocks[j, source], 0.0)
                    total = total + at_units(backend.xp, factor, units) * row
            stack.append(total)
        after[leaf.name] = backend.xp.stack(stack)
    kept: LocalInfluence = backend.map(lambda _, new: new, carry, after)
    return kept


def through_local(
    backend: Backend,
    locality: Locality,
    params: Any,
    carry: LocalInfluence,
    state_cotangent: Any,
) -> Any:
    """Pull a cotangent of the state back through the influence: ``Σ_j c_j[u] e_j``.

    Args:
        backend: Backend of all arrays.
        locality: The locality of the model.
        params: Params, for their structure.
        carry: The influence.
        state_cotangent: c, shaped like the state.
    """
    row = coordinates(backend, backend.map(lambda leaf: leaf[None], state_cotangent))[0]
    leaves = iter(locality.leaves)

    def pull(zero: Any) -> Any:
        leaf = next(leaves)
        if leaf.name not in carry:
            return zero
        total: Any = 0.0
        carried = locality.carried(leaf)
        for (j, units), rows in zip(carried.items(), carry[leaf.name], strict=True):
            alive = nonzero(backend, rows, stacked=False)
            weights = where(backend, alive, along(row, locality.colours[j]))
            total = total + at_units(backend.xp, weights, units) * rows
        return total

    return backend.map(pull, backend.zeros(params))


class Local(Stepping):
    """Base of estimators that carry the influence of params on their own units, and no other."""

    needs_item: ClassVar[bool] = True

    def structure(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
    ) -> Locality:
        """Return the locality of a model; ``describe()`` says it in words.

        Args:
            dynamics: The model.
            params: Parameters.
            state: Hidden state of one stream.
            inputs: One item of the stream.

        Raises:
            DerivativeError: If no derivative of the model is finite.
        """
        return find_locality(dynamics, params, state, inputs)

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> LocalInfluence:
        """Return the zero influence.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or ``inputs`` is missing.
            StructureError: If a leaf of ``params`` or ``state`` is not an array, or the estimator
                refuses the model.
            DerivativeError: If no derivative of the model is finite.
        """
        name = type(self).__name__
        require_model(f"{name}.init", dynamics, params, state)
        require_item(f"{name}.init", inputs, "which units each entry of the params moves")
        locality = self._accepted(dynamics, params, state, inputs)
        return no_influence(dynamics.backend, locality, params)

    def draw(self, sampler: Sampler, state: object) -> None:
        """Return ``None``: there is no randomness."""
        return

    def gradient(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: LocalInfluence,
        state: State,
        inputs: Inputs,
        cotangent: Any,
    ) -> Params:
        """Compute the gradient of a loss of a step's output, from what the step received."""
        locality = self._accepted(dynamics, params, state, inputs)
        _, pullback = dynamics.vjp(params, state, inputs)
        return gradient_of(dynamics.backend, locality, params, carry, pullback, cotangent)

    def _require_carry(self, locality: Locality, carry: Any) -> None:
        """Raise for a carry of another model or another locality."""
        carried = {
            leaf.name: (len(locality.carried(leaf)), *leaf.shape) for leaf in locality.leaves
        }
        expected = {name: shape for name, shape in carried.items() if shape[0]}
        got = (
            {name: tuple(stack.shape) for name, stack in carry.items()}
            if isinstance(carry, dict)
            else type(carry).__name__
        )
        if got != expected:
            call = f"{type(self).__name__}.step(carry=...)"
            hint = "Make the carry anew by init(dynamics, params, state, inputs=item)."
            raise StructureError(mismatch(call, "", f"stacks {expected}", f"{got}", hint))

    def _accepted(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
    ) -> Locality:
        """Return the locality of a model that the estimator accepts."""
        return self.structure(dynamics, params, state, inputs)


def gradient_of(
    backend: Backend,
    locality: Locality,
    params: Params,
    carry: LocalInfluence,
    pullback: Any,
    cotangent: Any,
) -> Params:
    """Return the gradient of a loss: within the step, and through the influence."""
    immediate, state_gradient = pullback(None, cotangent)
    carried = through_local(backend, locality, params, carry, state_gradient)
    whole: Params = backend.combine((1.0, immediate), (1.0, carried))
    return whole
