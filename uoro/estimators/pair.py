"""The pair that estimates the influence, and how an old and a fresh pair merge into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeAlias

from uoro.algebra import DTYPES
from uoro.arguments import require_choice, require_like
from uoro.backend import Backend, Tree
from uoro.dynamics import Dynamics, Params, State
from uoro.errors import SettingError, spelled

PairDtype: TypeAlias = Literal["bfloat16", "float16", "float32", "float64"]
"""Storage dtype of the pairs."""


class Influence(NamedTuple, Generic[State, Params]):
    """Rank-one estimate ``tangent ⊗ cotangent`` of the influence ``∂ state / ∂ params``.

    The influence (or influence matrix) is the sensitivity of the hidden state to the parameters.

    Attributes:
        tangent: Shaped like the state; s̃ in the paper.
        cotangent: Shaped like the params; θ̃ in the paper.
    """

    tangent: State
    cotangent: Params


class Moment(NamedTuple):
    """All that a step receives.

    Attributes:
        dynamics: The model.
        params: θ.
        carry: Pairs from before the step.
        state: s_t.
        inputs: One item of the stream.
        signs: Random trees of the step.
    """

    dynamics: Dynamics[Any, Any, Any]
    params: Any
    carry: Any
    state: Any
    inputs: Any
    signs: Any


def merge(
    backend: Backend,
    pair: Influence[State, Params],
    pushed: State,
    signs: State,
    pull: Callable[[], Params],
    epsilon: float,
) -> Influence[State, Params]:
    """Merge ``s̃' ⊗ θ̃`` and ``ν ⊗ θ̃'`` into one pair (steps 4 and 5 of Algorithm 1).

    Args:
        backend: Backend of all trees.
        pair: (s̃, θ̃) from before the step.
        pushed: s̃' = ∂F/∂s · s̃.
        signs: ν.
        pull: Computes θ̃' = νᵀ ∂F/∂θ. A function, because a compiler need not write out its
            result.
        epsilon: ε of the normalisers.
    """
    (cotangent, pushed, pulled, signs), norms = backend.with_norms(
        lambda: (pair.cotangent, pushed, pull(), signs)
    )
    of_cotangent, of_pushed, of_pulled, of_signs = norms
    rho_carried = (of_cotangent / (of_pushed + epsilon)) ** 0.5 + epsilon
    rho_fresh = (of_pulled / (of_signs + epsilon)) ** 0.5 + epsilon
    return Influence(
        tangent=backend.combine((rho_carried, pushed), (rho_fresh, signs)),
        cotangent=backend.combine((1.0 / rho_carried, cotangent), (1.0 / rho_fresh, pulled)),
    )


# Storage dtype.


def require_pair_dtype(name: str, pair_dtype: PairDtype | None) -> None:
    """Check the setting ``pair_dtype`` of an estimator.

    Raises:
        SettingError: If the dtype is unknown.
    """
    if pair_dtype is not None:
        call = f"{name}(pair_dtype={spelled(pair_dtype)})"
        require_choice(call, "pair dtype", pair_dtype, DTYPES)


def stored(name: str, backend: Backend, tree: Tree, pair_dtype: PairDtype | None) -> Tree:
    """Cast one side of a pair to its storage dtype.

    Raises:
        SettingError: If the backend lacks the dtype.
    """
    if pair_dtype is None:
        return tree
    if pair_dtype in backend.lacks:
        raise SettingError(
            f"{name}(pair_dtype={pair_dtype!r}): the backend '{backend.name}' lacks this dtype: "
            f"{backend.lacks[pair_dtype]} Try another dtype, or leave pair_dtype out."
        )
    cast: Tree = backend.from_host(tree, dtype=pair_dtype)
    return cast


def loaded(backend: Backend, tangent: State, like: State, pair_dtype: PairDtype | None) -> State:
    """Cast a stored tangent to the dtypes of ``like``, which are those of the state."""
    if pair_dtype is None:
        return tangent
    cast: State = backend.map(lambda _, kept: kept, like, tangent)
    return cast


def require_signs(
    call: str, backend: Backend, signs: Any, state: Any, batch: tuple[int, ...]
) -> None:
    """Check that signs are shaped like the state, or a stack of such trees.

    Raises:
        StructureError: If a leaf differs in name, shape or dtype.
    """
    require_like(
        backend,
        signs,
        state,
        call=f"{call}(signs=...)",
        batch=batch,
        tangent=True,
        hint="Draw one sign per state coordinate, by draw(sampler, state).",
    )
