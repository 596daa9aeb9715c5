"""Wrong Kronecker sums, one mistake each, with the check that must refuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from uoro.algebra import basis, coordinates, flatten
from uoro.derivatives.jacobians import Immediate, Jacobians, take_jacobians
from uoro.derivatives.structure import Structure, factor
from uoro.dynamics import Moment
from uoro.estimators.kronecker import KroneckerSum
from uoro.estimators.kronecker_carry import (
    DRAWS,
    KroneckerInfluence,
    advance_influence,
    structure_of,
)
from uoro.estimators.kronecker_pairs import Terms
from uoro.prediction import Prediction


class Now(NamedTuple):
    """What is known within one step of a variant.

    Attributes:
        dynamics: The model.
        at: Params, state and inputs of the step.
        carry: The influence that the step arrived with.
        structure: Structure of the params.
        signs: Signs of the step.
    """

    dynamics: Any
    at: Moment
    carry: KroneckerInfluence
    structure: Structure
    signs: Any


def _as_it_is(now: Now, thing: Any) -> Any:
    return thing


@dataclass(frozen=True)
class KroneckerVariant(KroneckerSum):
    """Kronecker sums in replaceable pieces.

    Attributes:
        name: What is wrong, in words.
        take: Computes the Jacobians of a step.
        jacobians: Changes the Jacobians of a step.
        signs: Changes the signs.
        after: Changes the influence after the step.
        before: Changes the influence that the gradient is estimated from.
    """

    name: str = field(default="right", kw_only=True)
    take: Callable[..., Jacobians] = field(default=take_jacobians, kw_only=True)
    jacobians: Callable[[Now, Jacobians], Jacobians] = field(default=_as_it_is, kw_only=True)
    signs: Callable[[Now, Any], Any] = field(default=_as_it_is, kw_only=True)
    after: Callable[[Now, KroneckerInfluence], KroneckerInfluence] = field(
        default=_as_it_is, kw_only=True
    )
    before: Callable[[Now, KroneckerInfluence], KroneckerInfluence] = field(
        default=_as_it_is, kw_only=True
    )

    def advance(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance by one step, with what is changed."""
        backend = dynamics.backend
        structure = structure_of(backend, params, carry)
        now = Now(dynamics, Moment(params, state, inputs), carry, structure, signs)
        model = self.take(dynamics, structure, params, state, inputs)
        changed = self.jacobians(now, model)
        drawn = self.signs(now, signs.terms)
        after = advance_influence(backend, structure, changed, carry, drawn, self.rank)
        after = self.after(now, after)

        def gradient(cotangent: Any) -> Any:
            immediate, state_gradient = model.pullback(None, cotangent)
            used = self.before(now, carry)
            carried = self.through(dynamics, params, used, state_gradient)
            whole = backend.combine((1.0, immediate), (1.0, carried))
            return model.unless_broken(backend, whole)

        output = model.unless_broken(backend, model.outcome.output)
        outcome = model.outcome._replace(output=output)
        return after, outcome.next_state, Prediction(backend, outcome, gradient)


class KroneckerMutant(NamedTuple):
    """A wrong estimator, and the name of the check that refuses it."""

    estimator: KroneckerVariant
    killed_by: str


def _each(model: Jacobians, change: Callable[[int, Immediate], Immediate]) -> Jacobians:
    """Change the immediate Jacobian of each leaf that has factors."""
    changed = [
        fresh if fresh is None or fresh.right is None else change(i, fresh)
        for i, fresh in enumerate(model.params)
    ]
    return model._replace(params=changed)


def _transposed(now: Now, model: Jacobians) -> Jacobians:
    return model._replace(state=model.state.T)


def _at_next_state(now: Now, model: Jacobians) -> Jacobians:
    """Take D at s' in place of s."""
    params, _, inputs = now.at
    later = take_jacobians(now.dynamics, now.structure, params, model.outcome.next_state, inputs)
    pairs = zip(model.params, later.params, strict=True)
    return model._replace(
        params=[
            one if one is None or other is None or one.right is None else other._replace(
                right=one.right
            )
            for one, other in pairs
        ]
    )  # fmt: skip


def _stale(now: Now, model: Jacobians) -> Jacobians:
    """Take the a of a state of zero, in place of this step's."""
    params, state, inputs = now.at
    backend = now.dynamics.backend
    zero = backend.map(lambda leaf: 0.5 * leaf, state)
    other = take_jacobians(now.dynamics, now.structure, params, zero, inputs)

    def change(i: int, fresh: Immediate) -> Immediate:
        found = other.params[i]
        return fresh if found is None else fresh._replace(right=found.right)

    return _each(model, change)


def _no_push(now: Now, model: Jacobians) -> Jacobians:
    return model._replace(state=0.0 * model.state + 0.9 * _identity(now, model.state))


def _identity(now: Now, like: Any) -> Any:
    return now.dynamics.backend.xp.diag(like[0] * 0.0 + 1.0)


def _first_row_lost(now: Now, model: Jacobians) -> Jacobians:
    xp = now.dynamics.backend.xp

    def change(i: int, fresh: Immediate) -> Immediate:
        return fresh._replace(left=xp.concatenate([0.0 * fresh.left[:1], fresh.left[1:]], 0))

    return _each(model, change)


def _half_fresh(now: Now, model: Jacobians) -> Jacobians:
    return _each(model, lambda i, fresh: fresh._replace(left=0.9 * fresh.left))


def _wrong_factor(now: Now, model: Jacobians) -> Jacobians:
    """Double the factor of the leaves of a group that are not its first."""
    later = [name for group in now.structure.groups for name in group[1:]]

    def change(i: int, fresh: Immediate) -> Immediate:
        return fresh._replace(right=(1 + (now.structure.leaves[i].name in later)) * fresh.right)

    return _each(model, change)


def _one_member(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    """Keep the vector of the first leaf of a group alone."""

    def alone(right: dict[str, Any]) -> dict[str, Any]:
        return {name: (1.0 if i == 0 else 0.0) * u for i, (name, u) in enumerate(right.items())}

    return after._replace(
        terms={
            name: Terms(terms.left, tuple(map(alone, terms.right)))
            for name, terms in after.terms.items()
        }
    )


def _all_plus(now: Now, signs: Any) -> Any:
    return now.dynamics.backend.map(lambda leaf: 0.0 * leaf + 1.0, signs)


def _one_for_all(now: Now, signs: Any) -> Any:
    """Give every leaf the signs of the first."""
    backend = now.dynamics.backend
    rows = coordinates(backend, flatten(backend, signs))
    first = rows.reshape((DRAWS, -1, rows.shape[1]))[:1, :, :1]

    def fill(leaf: Any) -> Any:
        shape = tuple(first.shape[:2]) + (1,) * (len(leaf.shape) - 2)
        return 0.0 * leaf + first.reshape(shape)

    return backend.map(fill, signs)


def _without_test(dynamics: Any, structure: Structure, *at: Any) -> Jacobians:
    """Take the factors of every leaf that had some once, whatever they leave over."""
    backend = dynamics.backend
    outcome, pullback = dynamics.vjp(*at)
    by_params, by_state = backend.vmap(lambda row: pullback(row, None))(basis(backend, at[1]))
    leaves = [leaf for _, leaf in backend.named_leaves(by_params)]
    found = list[Immediate | None]()
    for leaf, rows in zip(structure, leaves, strict=True):
        if leaf.kind == "none":
            found.append(None)
        elif leaf.kind == "outer":
            found.append(Immediate(*factor(backend.xp, rows, leaf.inputs)[:2]))
        else:
            found.append(Immediate(rows))
    return Jacobians(outcome, pullback, coordinates(backend, by_state), found, True)


def _scaled_terms(now: Now, after: KroneckerInfluence, by: float, last: bool) -> KroneckerInfluence:
    def change(terms: Terms) -> Terms:
        scaled = [by * a if not last or i == len(terms.left) - 1 else a
                  for i, a in enumerate(terms.left)]  # fmt: skip
        return Terms(tuple(scaled), terms.right)

    return after._replace(terms={name: change(terms) for name, terms in after.terms.items()})


def _tail_shrunk(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    return _scaled_terms(now, after, 0.9, True)


def _terms_decay(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    return _scaled_terms(now, after, 0.99, False)


def _exact_decays(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    return after._replace(exact={name: 0.99 * rows for name, rows in after.exact.items()})


def _vector_lost(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    """Treat the vectors as if they did not reach the state."""
    return after._replace(exact={name: 0.0 * rows for name, rows in after.exact.items()})


def _exchanged(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    """Exchange the roles of rows and columns of square matrices: the orientation is swapped."""
    changed = dict[str, Terms]()
    xp = now.dynamics.backend.xp
    for name, terms in after.terms.items():
        n, rows = terms.left[0].shape
        columns = sum(max(u.shape) for u in terms.right[0].values())
        changed[name] = terms
        if n == rows == columns:
            changed[name] = Terms(tuple(xp.swapaxes(a, 0, 1) for a in terms.left), terms.right)
    return after._replace(terms=changed)


def _strongest_only(now: Now, after: KroneckerInfluence) -> KroneckerInfluence:
    """Drop the last term: what shares its place is lost, and not only delayed."""
    return _scaled_terms(now, after, 0.0, True)


def _one_step_ahead(now: Now, carry: KroneckerInfluence) -> KroneckerInfluence:
    """Estimate the gradient from the influence after the step."""
    params, state, inputs = now.at
    model = take_jacobians(now.dynamics, now.structure, params, state, inputs)
    rank = len(next(iter(carry.terms.values())).left)
    backend = now.dynamics.backend
    return advance_influence(backend, now.structure, model, carry, now.signs.terms, rank)


def _wrong(name: str, killed_by: str, **changes: Any) -> KroneckerMutant:
    return KroneckerMutant(KroneckerVariant(2, name=f"kronecker: {name}", **changes), killed_by)


WRONG_KRONECKER = (
    _wrong("J transposed", "mean", jacobians=_transposed),
    _wrong("D taken at the next state", "mean", jacobians=_at_next_state),
    _wrong("a of another state", "mean", jacobians=_stale),
    _wrong("decay in place of J", "mean", jacobians=_no_push),
    _wrong("a row of D lost", "mean", jacobians=_first_row_lost),
    _wrong("D scaled on one side", "mean", jacobians=_half_fresh),
    _wrong("no signs", "mean", signs=_all_plus),
    _wrong("tail not rescaled", "mean", after=_tail_shrunk),
    _wrong("terms decay", "mean", after=_terms_decay),
    _wrong("exact leaves decay", "mean", after=_exact_decays),
    _wrong("vectors do not reach the state", "mean", after=_vector_lost),
    _wrong("rows and columns exchanged", "mean", after=_exchanged),
    _wrong("last term dropped", "mean", after=_strongest_only),
    _wrong("gradient from the terms after the step", "mean", before=_one_step_ahead),
    _wrong("a wrong factor of a leaf that shares D", "mean", jacobians=_wrong_factor, group=True),
    _wrong("one of the leaves that share D kept", "mean", after=_one_member, group=True),
    _wrong("one leaf's signs used by all", "signs", signs=_one_for_all),
    _wrong("structure never tested again", "structure", take=_without_test),
)
"""Each must be refused: most by the enumeration of all signs, and by the chain."""

RIGHT_KRONECKER = (
    KroneckerVariant(1, name="kronecker: rank 1"),
    KroneckerVariant(2, name="kronecker: rank 2"),
    KroneckerVariant(2, name="kronecker: leaves that share D together", group=True),
    KroneckerVariant(2, name="kronecker: signs flipped", signs=lambda now, signs: (
        now.dynamics.backend.combine((-1.0, signs))
    )),
)  # fmt: skip
"""None may be refused."""
