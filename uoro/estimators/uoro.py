"""Unbiased Online Recurrent Optimization: Algorithm 1 of the paper, and its rank-k form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, get_args

from uoro.algebra import DTYPES, flatten, mix, require_arrays, require_like
from uoro.backend import Backend, Law, Tree
from uoro.dynamics import Dynamics, Inputs, Params, State, require_dynamics
from uoro.errors import (
    SettingError,
    StructureError,
    require_choice,
    require_count,
    require_number,
    spelled,
)
from uoro.estimator import Estimand, Estimate, Sampler
from uoro.sweep import Sweep, mean_direct, once, sweep


class Influence(NamedTuple, Generic[State, Params]):
    """Rank-one estimate ``tangent ⊗ cotangent`` of the influence ``∂ state / ∂ params``.

    Attributes:
        tangent: Shaped like the state; s̃ in the paper.
        cotangent: Shaped like the params; θ̃ in the paper.
    """

    tangent: State
    cotangent: Params


@dataclass(frozen=True)
class UORO:
    """Unbiased online estimate of the gradient, from one jvp and two vjps a step.

    Carries a pair (s̃, θ̃) with ``E[s̃ ⊗ θ̃] = ∂s_t/∂θ``. One step from t to t+1:

    1. run the model: s_{t+1} and ℓ;
    2. estimate the gradient with the *old* pair: ``g̃ = (∂ℓ/∂s_t · s̃) θ̃ + ∂ℓ/∂θ``;
    3. push the tangent forward, ``s̃' = ∂F/∂s_t · s̃``, and pull random signs ν back,
       ``θ̃' = νᵀ ∂F/∂θ``;
    4. balance the two parts, so that neither drowns the other in noise:
       ``ρ0 = sqrt(‖θ̃‖ / (‖s̃'‖ + ε)) + ε`` and ``ρ1 = sqrt(‖θ̃'‖ / (‖ν‖ + ε)) + ε``;
    5. ``s̃ ← ρ0 s̃' + ρ1 ν`` and ``θ̃ ← θ̃/ρ0 + θ̃'/ρ1``.

    The pair starts from zero, which is exact: the first state does not depend on θ.

    Args:
        rank: How many independent pairs to carry; their gradients are averaged, which divides
            the variance by the rank (section 3.4). With more than one, pair and signs carry a
            leading axis of this length.
        law: The law of ν. Every choice is unbiased.
        epsilon: ε of the normalisers. It has nothing to do with finite differences.
        pair_dtype: In what the pair is kept, ``"bfloat16"``, ``"float16"``, ``"float32"`` or
            ``"float64"``; if not given, s̃ in the dtypes of the state and θ̃ in those of the params.
            Wider than the params, it is not rounded to theirs at every step; narrower, it saves
            memory and takes on the rounding of every step, 0.4 % in bfloat16.
            Derivatives are taken, and gradients given, in the dtypes of state and params.

    Raises:
        SettingError: If the rank is not a positive integer, the law or the dtype unknown, or ε
            not positive.

    Example:
        >>> from uoro import UORO, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(theta, state, x):
        ...     next_state = xp.tanh(theta * state + x)
        ...     return next_state, 0.5 * xp.sum((next_state - 1.0) ** 2)
        >>> dynamics = backend.dynamics(transition)
        >>> theta, state = xp.array(0.5), xp.zeros(2)
        >>> estimator = UORO()
        >>> memory = estimator.init(dynamics, theta, state)
        >>> signs = xp.array([1.0, -1.0])
        >>> for x in (0.1, 0.2):
        ...     memory, state, estimate = estimator.step(
        ...         dynamics, theta, memory, state, x, signs)
        >>> round(float(estimate.loss), 4)
        0.5704

    References:
        Tallec & Ollivier, "Unbiased Online Recurrent Optimization", ICLR 2018,
        arXiv:1702.05043: Algorithm 1, with ε where the paper puts it.
    """

    rank: int = 1
    law: Law = "signs"
    epsilon: float = 1e-7
    pair_dtype: Literal["bfloat16", "float16", "float32", "float64"] | None = None

    def __post_init__(self) -> None:
        require_count(f"UORO(rank={spelled(self.rank)})", "rank", self.rank)
        require_choice(f"UORO(law={spelled(self.law)})", "law", self.law, get_args(Law))
        if self.pair_dtype is not None:
            call = f"UORO(pair_dtype={spelled(self.pair_dtype)})"
            require_choice(call, "dtype", self.pair_dtype, DTYPES)
        require_number(
            f"UORO(epsilon={spelled(self.epsilon)})",
            "epsilon",
            self.epsilon,
            "positive and finite; with zero the first step divides by zero",
            lambda x: x > 0,
        )

    @property
    def estimand(self) -> Estimand:
        """It is unbiased."""
        return "unbiased"

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.rank == 1 else (self.rank,)

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> Influence[State, Params]:
        """Make the zero pair, or a stack of `rank` of them.

        Raises:
            SettingError: If the dynamics are none, or the backend does without the `pair_dtype`.
            StructureError: If a leaf of params or state is no array.
        """
        require_dynamics("UORO.init(dynamics, …)", dynamics)
        for what, tree in (("params", params), ("state", state)):
            require_arrays(dynamics.backend, tree, f"UORO.init({what}=...)")
        backend = dynamics.backend
        return Influence(
            self._kept(backend, backend.zeros(state, batch=self._batch)),
            self._kept(backend, backend.zeros(params, batch=self._batch)),
        )

    def _kept(self, backend: Backend, tree: Tree) -> Tree:
        """Put a tree into the dtype in which the pair is kept."""
        if self.pair_dtype is None:
            return tree
        if self.pair_dtype in backend.lacks:
            raise SettingError(
                f"UORO(pair_dtype={self.pair_dtype!r}): the backend '{backend.name}' does without: "
                f"{backend.lacks[self.pair_dtype]}"
            )
        kept: Tree = backend.from_host(tree, dtype=self.pair_dtype)
        return kept

    def draw(self, sampler: Sampler, state: State) -> State:
        """Draw ν, shaped like the state, or a stack of `rank` of them."""
        return sampler(state, self.law, self._batch)

    def step(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        memory: Influence[State, Params],
        state: State,
        inputs: Inputs,
        noise: State,
    ) -> tuple[Influence[State, Params], State, Estimate]:
        """Advance the pair and estimate the gradient, as the class docstring says.

        Args:
            dynamics: The model.
            params: θ.
            memory: (s̃, θ̃).
            state: s_t.
            inputs: One item of the stream.
            noise: ν, as `draw` gives it.

        Raises:
            StructureError: If ν is not shaped like the state, or the memory is no pair.
        """
        if not isinstance(memory, Influence):
            raise StructureError(
                f"UORO.step(memory={spelled(memory)}): wanted is a pair, an Influence. Make it by "
                "init(dynamics, params, state), and pass on what step returns."
            )
        backend = dynamics.backend
        require_like(
            backend,
            noise,
            state,
            call="UORO.step(noise=...)",
            batch=self._batch,
            tangent=True,
            hint="Draw one sign per state coordinate, and with rank k a stack of k such trees.",
        )
        pair, swept = self._advance(dynamics, params, memory, state, inputs, noise)
        if self.rank == 1:
            gradient = backend.combine((1.0, swept.direct), (swept.rate, memory.cotangent))
        else:
            averaged = mix(backend, swept.rate / self.rank, memory.cotangent)
            gradient = backend.combine((1.0, swept.direct), (1.0, averaged))
        outcome = swept.outcome
        return pair, outcome.next_state, Estimate(outcome.loss, gradient, outcome.aux)

    def step_streams(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        memory: Influence[State, Params],
        state: State,
        inputs: Inputs,
        noise: State,
    ) -> tuple[Influence[State, Params], State, Estimate]:
        """Do for B streams what `step` does for one, and average; the arguments are stacks of B.

        No stream's gradient is formed by itself: the carried parts are one product of the rates
        with all θ̃.
        """
        backend = dynamics.backend

        def one(
            memory: Influence[State, Params], state: State, inputs: Inputs, noise: State
        ) -> Any:
            pair, swept = self._advance(dynamics, params, memory, state, inputs, noise)
            return pair, swept.outcome, swept.direct, swept.rate

        pair, outcome, each, rates = backend.vmap(one)(memory, state, inputs, noise)
        direct = mean_direct(dynamics, params, state, inputs, each)
        pairs = rates.reshape((-1,))
        cotangents = memory.cotangent if self.rank == 1 else flatten(backend, memory.cotangent)
        carried = mix(backend, pairs / pairs.shape[0], cotangents)
        gradient = backend.combine((1.0, direct), (1.0, carried))
        return pair, outcome.next_state, Estimate(outcome.loss.mean(), gradient, outcome.aux)

    def _advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        memory: Influence[State, Params],
        state: State,
        inputs: Inputs,
        noise: State,
    ) -> tuple[Influence[State, Params], Sweep[State, Params]]:
        """Do all of a step but to put the gradient together."""
        backend = dynamics.backend
        each = once if self.rank == 1 else backend.vmap
        tangent = memory.tangent
        if self.pair_dtype is not None:
            tangent = backend.map(lambda signs, kept: kept, noise, tangent)  # in the state's dtypes
        swept = sweep(dynamics, params, state, inputs, tangent, noise, each)

        def merge(
            pair: Influence[State, Params], signs: State, pushed: State, kept: Any
        ) -> Influence[State, Params]:
            merged = self._kept(backend, pushed)
            return _merge(
                backend,
                lambda: (pair.cotangent, merged, swept.pull(signs, kept), signs),
                self.epsilon,
            )

        return each(merge)(memory, noise, swept.pushed, swept.kept), swept


def _merge(
    backend: Backend,
    parts: Callable[[], tuple[Params, State, Params, State]],
    epsilon: float,
) -> Influence[State, Params]:
    """Merge ``pushed ⊗ cotangent`` and ``signs ⊗ pulled`` into one pair (steps 4 and 5)."""
    (cotangent, pushed, pulled, signs), norms = backend.with_norms(parts)
    of_cotangent, of_pushed, of_pulled, of_signs = norms
    rho_carried = (of_cotangent / (of_pushed + epsilon)) ** 0.5 + epsilon
    rho_fresh = (of_pulled / (of_signs + epsilon)) ** 0.5 + epsilon
    return Influence(
        tangent=backend.combine((rho_carried, pushed), (rho_fresh, signs)),
        cotangent=backend.combine((1.0 / rho_carried, cotangent), (1.0 / rho_fresh, pulled)),
    )
