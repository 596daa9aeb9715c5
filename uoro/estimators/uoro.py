"""Unbiased Online Recurrent Optimization: Algorithm 1 of the paper, and its rank-k form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, get_args

from uoro.algebra import DTYPES, entry, flatten, mix, working_precision
from uoro.arguments import (
    require_arrays,
    require_choice,
    require_count,
    require_dynamics,
    require_like,
    require_number,
)
from uoro.backend import Backend, Distribution, Tree
from uoro.derivatives.sweep import Sweep, mean_direct, once, sweep
from uoro.dynamics import Dynamics, Inputs, Params, State
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimate, Guarantee, Sampler
from uoro.estimators.joint import JointInfluence, fresh_projections, merge
from uoro.estimators.scaling import Scaling, require_scaling, scaled

Reducing: TypeAlias = Literal["independent", "optimal"]
"""How 2k pairs become k again: each old one with a fresh one, or all of them together."""


class Influence(NamedTuple, Generic[State, Params]):
    """Rank-one estimate ``tangent ⊗ cotangent`` of the influence ``∂ state / ∂ params``.

    Attributes:
        tangent: Shaped like the state; s̃ in the paper.
        cotangent: Shaped like the params; θ̃ in the paper.
    """

    tangent: State
    cotangent: Params


Carry: TypeAlias = Influence[State, Params] | JointInfluence[State, Params]
"""What is carried: pairs that are averaged, or pairs that are added up."""


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

    With ``reduction="optimal"`` the k pairs are one estimate of rank k, ``E[Σ s̃_i ⊗ θ̃_i] =
    ∂s_t/∂θ``. Steps 1 and 2 are the same, with the sum over pairs for the mean. In step 3 all s̃_i
    are pushed, and k projections ν_j pulled back that are orthogonal to each other
    (`uoro.estimators.projections`). In place of steps 4 and 5 the 2k pairs are reduced to k by the
    unbiased reduction of least variance (`uoro.estimators.reduction`): the strongest directions
    are kept as they are, and only the weak share places at random. A rank of at least the number
    of state coordinates makes it exact RTRL. What is lost: the rank no longer is a number of
    independent replicas, from which noise could be told; pushes and pulls are as many, but a small
    singular value decomposition comes to them; in float32, directions weaker than about 1e-5 of
    the strongest are dropped, and no norms below 1e-19 or above 1e19 can be told from zero and
    infinity.

    With ``scaling="rows"`` coordinates of ν are made larger on the side of the state, and smaller
    by the same factor where they are pulled back, in the measure in which the params move that
    coordinate (`uoro.estimators.scaling`). It needs five forward passes more. Where the params move
    some units far more than others, as in a gated network, there is less noise; ``docs/ranks.md``
    says where that helps learning, and where it does not.

    Args:
        rank: How many pairs to carry. Independent ones have their gradients averaged, which
            divides the variance by the rank (section 3.4). With more than one, the pair carries a
            leading axis of this length, and so do the signs of independent ones.
        distribution: The distribution of ν. Every choice is unbiased. The optimal reduction takes
            signs alone.
        reduction: Whether the pairs are independent, or one estimate whose variance is the least.
        scaling: What ν is scaled by, coordinate by coordinate: nothing, or ``"rows"``, or a
            function of params, state and inputs that gives positive numbers shaped like the state.
            Every choice is unbiased. Best are roots of the norms of the rows of ∂F/∂θ, in any unit.
        epsilon: ε of the normalisers. It has nothing to do with finite differences.
        pair_dtype: In what the pair is kept, ``"bfloat16"``, ``"float16"``, ``"float32"`` or
            ``"float64"``; if not given, s̃ in the dtypes of the state and θ̃ in those of the params.
            Wider than the params, it is not rounded to theirs at every step; narrower, it saves
            memory and takes on the rounding of every step, 0.4 % in bfloat16.
            Derivatives are taken, and gradients given, in the dtypes of state and params.

    Raises:
        SettingError: If the rank is not a positive integer, the law, the reduction, the scaling or
            the dtype unknown, ε not positive, or the reduction optimal and the law not that of
            signs.

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
        >>> carry = estimator.init(dynamics, theta, state)
        >>> signs = xp.array([1.0, -1.0])
        >>> for x in (0.1, 0.2):
        ...     carry, state, estimate = estimator.step(
        ...         dynamics, theta, carry, state, x, signs)
        >>> round(float(estimate.loss), 4)
        0.5704

    References:
        Tallec & Ollivier, "Unbiased Online Recurrent Optimization", ICLR 2018,
        arXiv:1702.05043: Algorithm 1, with ε where the paper puts it.
        Benzing et al., "Optimal Kronecker-Sum Approximation of Real Time Recurrent Learning", ICML
        2019, arXiv:1902.03993: the optimal reduction, there of Kronecker products.
        Cooijmans & Martens, "On the Variance of Unbiased Online Recurrent Optimization", 2019,
        arXiv:1902.02405: scaling of ν, there by any invertible matrix.
    """

    rank: int = 1
    distribution: Distribution = "signs"
    epsilon: float = 1e-7
    pair_dtype: Literal["bfloat16", "float16", "float32", "float64"] | None = None
    reduction: Reducing = "independent"
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        require_count(f"UORO(rank={spelled(self.rank)})", "rank", self.rank)
        require_choice(
            f"UORO(distribution={spelled(self.distribution)})",
            "distribution",
            self.distribution,
            get_args(Distribution),
        )
        if self.pair_dtype is not None:
            call = f"UORO(pair_dtype={spelled(self.pair_dtype)})"
            require_choice(call, "dtype", self.pair_dtype, DTYPES)
        require_number(
            f"UORO(epsilon={spelled(self.epsilon)})",
            "epsilon",
            self.epsilon,
            "a positive, finite number (zero would divide by zero at the first step)",
            lambda x: x > 0,
        )
        call = f"UORO(reduction={spelled(self.reduction)})"
        require_choice(call, "reduction", self.reduction, get_args(Reducing))
        require_scaling(f"UORO(scaling={spelled(self.scaling)})", self.scaling)
        if self.joint and self.distribution != "signs":
            raise SettingError(
                f"UORO(distribution={self.distribution!r}, reduction='optimal'): the optimal "
                f"reduction draws signs. "
                "Leave distribution out."
            )

    @property
    def guarantee(self) -> Guarantee:
        """It is unbiased."""
        return "unbiased"

    @property
    def joint(self) -> bool:
        """Whether the pairs are one estimate of rank k, their sum; otherwise it is their mean."""
        return self.reduction == "optimal"

    @property
    def draws(self) -> int:
        """Count the random trees that a step takes: one a pair, or of the optimal reduction two."""
        return 2 if self.joint else self.rank

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.rank == 1 else (self.rank,)

    @property
    def _drawn(self) -> tuple[int, ...]:
        return () if self.draws == 1 else (self.draws,)

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> Carry[State, Params]:
        """Make the zero pair, or a stack of `rank` of them.

        Raises:
            SettingError: If the dynamics are none, or the backend does without the `pair_dtype`.
            StructureError: If a leaf of params or state is no array.
        """
        require_dynamics("UORO.init(dynamics, …)", dynamics)
        for what, tree in (("params", params), ("state", state)):
            require_arrays(dynamics.backend, tree, f"UORO.init({what}=...)")
        backend = dynamics.backend
        tangent = self._kept(backend, backend.zeros(state, batch=self._batch))
        cotangent = self._kept(backend, backend.zeros(params, batch=self._batch))
        if not self.joint:
            return Influence(tangent, cotangent)
        precision = working_precision(backend, (state, params))
        return JointInfluence(tangent, cotangent, backend.from_host(0.0, dtype=precision))

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
        """Draw ν, shaped like the state, or a stack of `draws` of them."""
        return sampler(state, self.distribution, self._drawn)

    def step(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Carry[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[Carry[State, Params], State, Estimate]:
        """Advance the pair and estimate the gradient, as the class docstring says.

        Args:
            dynamics: The model.
            params: θ.
            carry: (s̃, θ̃).
            state: s_t.
            inputs: One item of the stream.
            signs: ν, as `draw` gives it.

        Raises:
            StructureError: If ν is not shaped like the state, or the memory is no pair.
        """
        wanted = JointInfluence if self.joint else Influence
        if not isinstance(carry, wanted):
            raise StructureError(
                f"UORO.step(memory={spelled(carry)}): wanted is a pair, an {wanted.__name__}. "
                "Make it by init(dynamics, params, state), and pass on what step returns."
            )
        backend = dynamics.backend
        require_like(
            backend,
            signs,
            state,
            call="UORO.step(noise=...)",
            batch=self._drawn,
            tangent=True,
            hint="Draw one sign per state coordinate, and with rank k a stack of k such trees.",
        )
        pair, swept = self._advance(dynamics, params, carry, state, inputs, signs)
        if self.rank == 1:
            loss_tangent = swept.loss_tangent[0] if self.joint else swept.loss_tangent
            gradient = backend.combine((1.0, swept.immediate), (loss_tangent, carry.cotangent))
        else:
            loss_tangents = swept.loss_tangent if self.joint else swept.loss_tangent / self.rank
            carried = mix(backend, loss_tangents, carry.cotangent)
            gradient = backend.combine((1.0, swept.immediate), (1.0, carried))
        outcome = swept.outcome
        return pair, outcome.next_state, Estimate(outcome.loss, gradient, outcome.aux)

    def step_streams(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Carry[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[Carry[State, Params], State, Estimate]:
        """Do for B streams what `step` does for one, and average; the arguments are stacks of B.

        No stream's gradient is formed by itself: the carried parts are one product of the rates
        with all θ̃.
        """
        backend = dynamics.backend

        def one(carry: Carry[State, Params], state: State, inputs: Inputs, signs: State) -> Any:
            pair, swept = self._advance(dynamics, params, carry, state, inputs, signs)
            return pair, swept.outcome, swept.immediate, swept.loss_tangent

        pair, outcome, each, loss_tangents = backend.vmap(one)(carry, state, inputs, signs)
        immediate = mean_direct(dynamics, params, state, inputs, each)
        pairs = loss_tangents.reshape((-1,))
        cotangents = carry.cotangent if self.rank == 1 else flatten(backend, carry.cotangent)
        count = loss_tangents.shape[0] if self.joint else pairs.shape[0]
        carried = mix(backend, pairs / count, cotangents)
        gradient = backend.combine((1.0, immediate), (1.0, carried))
        return pair, outcome.next_state, Estimate(outcome.loss.mean(), gradient, outcome.aux)

    def _advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Carry[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[Carry[State, Params], Sweep[State, Params]]:
        """Do all of a step but to put the gradient together."""
        if isinstance(carry, JointInfluence):
            return self._advance_jointly(dynamics, params, carry, state, inputs, signs)
        backend = dynamics.backend
        each = once if self.rank == 1 else backend.vmap
        tangent = carry.tangent
        if self.pair_dtype is not None:
            tangent = backend.map(lambda signs, kept: kept, signs, tangent)  # in the state's dtypes
        fresh, pulled_back = scaled(self.scaling, dynamics, params, state, inputs, signs)
        swept = sweep(dynamics, params, state, inputs, tangent, pulled_back, each)

        def merge_one(
            pair: Influence[State, Params], signs: State, back: State, pushed: State, kept: Any
        ) -> Influence[State, Params]:
            merged = self._kept(backend, pushed)
            return _merge(
                backend,
                lambda: (pair.cotangent, merged, swept.pull(back, kept), signs),
                self.epsilon,
            )

        return each(merge_one)(carry, fresh, pulled_back, swept.pushed, swept.kept), swept

    def _advance_jointly(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: JointInfluence[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[JointInfluence[State, Params], Sweep[State, Params]]:
        """Do the same with all pairs together; with one, as a stack of one."""
        backend = dynamics.backend
        projected = fresh_projections(backend, signs, self.rank)
        fresh, pulled_back = scaled(self.scaling, dynamics, params, state, inputs, projected)
        pair = carry.tangent, carry.cotangent
        if self.rank == 1:
            pair = backend.map(lambda leaf: leaf[None], pair)
        kept, cotangent = pair
        tangent = kept
        if self.pair_dtype is not None:
            tangent = backend.map(lambda one, other: other, fresh, kept)  # in the state's dtypes
        swept = sweep(dynamics, params, state, inputs, tangent, pulled_back, backend.vmap)
        merged = merge(backend, kept, cotangent, swept, fresh, pulled_back, signs, self.rank)
        if self.rank == 1:
            merged = merged._replace(
                tangent=entry(backend, merged.tangent, 0),
                cotangent=entry(backend, merged.cotangent, 0),
            )
        return merged._replace(
            tangent=self._kept(backend, merged.tangent),
            cotangent=self._kept(backend, merged.cotangent),
        ), swept


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
