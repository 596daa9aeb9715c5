"""Unbiased online gradients from one estimate of rank k: k pairs, reduced together."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from uoro.algebra import entry, working_precision
from uoro.arguments import require_carry, require_count, require_model
from uoro.backend import Backend
from uoro.derivatives.sweep import rates, read, sweep
from uoro.dynamics import Dynamics, Inputs, Params, State, Sweep
from uoro.errors import spelled
from uoro.estimator import FormerGuarantee, Guarantee, Sampler
from uoro.estimators.baseline import Baseline, refuse_baseline, require_baseline
from uoro.estimators.gradient import through_pairs
from uoro.estimators.joint_pairs import Fresh, JointInfluence, project, reduce
from uoro.estimators.pair import (
    Moment,
    PairDtype,
    loaded,
    require_pair_dtype,
    require_signs,
)
from uoro.estimators.paired import Paired
from uoro.estimators.scaling import Scaling, require_scaling, scaled
from uoro.prediction import Prediction

DRAWS = 2
"""Random trees of a step: signs of the projections, and signs of the reduction."""


@dataclass(frozen=True)
class JointUORO(Paired):
    """Unbiased online estimate of the gradient, from k pairs reduced together at least variance.

    The k pairs are one estimate of rank k of the influence of the parameters on the hidden state:
    ``E[Σ_i s̃_i ⊗ θ̃_i] = ∂s_t/∂θ``. Steps 1 to 3 are those of `UORO`, with the sum over pairs in
    place of the mean, and with k projections ν_j in place of signs, orthogonal to each other
    (`uoro.estimators.projections`). In place of steps 4 and 5 an unbiased reduction of least
    variance turns the 2k pairs into k (`uoro.estimators.reduction`): the strongest directions are
    kept as they are, and only weak ones share places at random.

    A rank of at least the number of state coordinates makes the estimate exact RTRL.

    Compared with ``UORO(rank=k)``: as many JVPs and VJPs and a small singular value decomposition
    a step; the pairs are no independent replicas, from which noise could be estimated; in float32,
    directions weaker than about 1e-5 of the strongest are dropped, and norms below 1e-19 or above
    1e19 count as zero or infinity.

    Args:
        rank: Number of pairs, k.
        pair_dtype: Storage dtype of the pairs, as in `UORO`.
        scaling: Positive factors of the projections, coordinate by coordinate, as in `UORO`.
        baseline: ``None``, or ``"diagonal"``, as in `UORO`.
        probes: Number of random JVPs a step for the baseline, as in `UORO`.

    Raises:
        SettingError: If the rank is not a positive integer, or the scaling or the dtype is unknown.

    Example:
        >>> from uoro import JointUORO, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s + x)))
        >>> theta, state = xp.array(0.5), xp.zeros(1)
        >>> estimator = JointUORO(1)
        >>> carry = estimator.init(dynamics, theta, state)
        >>> signs = xp.array([[1.0], [-1.0]])
        >>> for x in (1.0, 1.0, 1.0):
        ...     carry, state, estimate = estimator.step(dynamics, theta, carry, state, x, signs)
        >>> round(float(estimate.gradient), 9)  # one state coordinate: rank 1 is exact RTRL
        2.0

    References:
        Benzing et al., "Optimal Kronecker-Sum Approximation of Real Time Recurrent Learning", ICML
        2019, arXiv:1902.03993: the optimal reduction, there of Kronecker products.
    """

    rank: int
    _: KW_ONLY
    pair_dtype: PairDtype | None = None
    scaling: Scaling | None = None
    baseline: Baseline | None = None
    probes: int = 1

    def __post_init__(self) -> None:
        require_count(f"JointUORO(rank={spelled(self.rank)})", "rank", self.rank)
        require_pair_dtype("JointUORO", self.pair_dtype)
        require_scaling(f"JointUORO(scaling={spelled(self.scaling)})", self.scaling)
        require_baseline("JointUORO", self.baseline, self.probes)

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"unbiased"``."""
        return "unbiased"

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> JointInfluence[State, Params]:
        """Return k zero pairs.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or the backend lacks `pair_dtype`.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
        """
        if self.baseline is not None:
            start: JointInfluence[State, Params] = self._beside.init(
                dynamics, params, state, inputs=inputs
            )
            return start
        require_model("JointUORO.init", dynamics, params, state)
        backend = dynamics.backend
        precision = working_precision(backend, (state, params))
        return JointInfluence(
            self._stored(backend, backend.zeros(state, batch=self._batch)),
            self._stored(backend, backend.zeros(params, batch=self._batch)),
            backend.from_host(0.0, dtype=precision),
        )

    def draw(self, sampler: Sampler, state: State) -> State:
        """Draw two trees of signs: for the projections, and for the reduction."""
        if self.baseline is not None:
            drawn: State = self._beside.draw(sampler, state)
            return drawn
        return sampler(state, "signs", (DRAWS,))

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: JointInfluence[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[JointInfluence[State, Params], State, Prediction]:
        """Advance all pairs; the loss may come later.

        Args:
            dynamics: The model.
            params: θ.
            carry: The k pairs.
            state: s_t.
            inputs: One item of the stream.
            signs: Two trees of signs, as `draw` returns them.

        Returns:
            The next pairs, the next state, and the output with the gradient of any loss of it.

        Raises:
            StructureError: If the signs are not shaped like two states, or ``carry`` is no
                `JointInfluence`.
        """
        if self.baseline is not None:
            after: tuple[JointInfluence[State, Params], State, Prediction] = self._beside.advance(
                dynamics, params, carry, state, inputs, signs
            )
            return after
        backend = dynamics.backend
        require_carry("JointUORO.step", carry, JointInfluence)
        require_signs("JointUORO.step", backend, signs, state, (DRAWS,))
        # Steps 1 and 3: run the model, push all s̃_i forward, and get ready to pull all ν_j back.
        stacked = self._stacked(backend, carry)
        model, fresh = self._sweep(Moment(dynamics, params, stacked, state, inputs, signs))

        # Step 2: the gradient, from the pairs as they arrived.
        def gradient(cotangent: Any) -> Any:
            tangent = loaded(backend, stacked.tangent, fresh.added, self.pair_dtype)
            immediate, weights = read(backend, model, tangent, cotangent, stacked=True)
            return through_pairs(backend, immediate, weights, stacked.cotangent, stacked=True)

        # In place of steps 4 and 5: reduce 2k pairs to k.
        pairs = self._reduce(backend, params, stacked, model, fresh)
        return pairs, model.outcome.next_state, Prediction(backend, model.outcome, gradient)

    @property
    def _averaged(self) -> int:
        return 1

    def through(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: JointInfluence[State, Params],
        state_gradient: State,
    ) -> Params:
        """Pull a gradient of the state back through the pairs: ``Σ_i <∂ℓ/∂s, s̃_i> θ̃_i``."""
        refuse_baseline("JointUORO.through", self.baseline)
        backend = dynamics.backend
        pairs = self._stacked(backend, carry)
        like = backend.zeros(state_gradient, batch=(self.rank,))
        tangent = loaded(backend, pairs.tangent, like, self.pair_dtype)
        weights = rates(backend, tangent, state_gradient, stacked=True)
        zero = backend.zeros(params)
        carried: Params = through_pairs(backend, zero, weights, pairs.cotangent, stacked=True)
        return carried

    def _advance(self, now: Moment) -> tuple[JointInfluence[Any, Any], Sweep[Any, Any]]:
        """Do all of a step but the gradient."""
        backend = now.dynamics.backend
        now = now._replace(carry=self._stacked(backend, now.carry))
        model, fresh = self._sweep(now)
        return self._reduce(backend, now.params, now.carry, model, fresh), model

    def _sweep(self, now: Moment) -> tuple[Sweep[Any, Any], Fresh[Any]]:
        """Take all derivatives of a step; return them with the projections."""
        dynamics, params, carry, state, inputs, signs = now
        backend = dynamics.backend
        made = project(backend, signs, self.rank)
        added, pulled = scaled(self.scaling, dynamics, params, state, inputs, made)
        tangent = loaded(backend, carry.tangent, added, self.pair_dtype)
        model = sweep(dynamics, params, state, inputs, tangent, pulled, backend.vmap)
        return model, Fresh(added, pulled, signs)

    def _reduce(
        self,
        backend: Backend,
        params: Any,
        carry: Any,
        model: Sweep[Any, Any],
        fresh: Fresh[Any],
    ) -> JointInfluence[Any, Any]:
        """Reduce the carried and the fresh pairs to k, in their storage dtype."""
        pairs = reduce(backend, params, carry.tangent, carry.cotangent, model, fresh, self.rank)

        def kept(side: Any) -> Any:
            return self._stored(backend, entry(backend, side, 0) if self.rank == 1 else side)

        return JointInfluence(kept(pairs.tangent), kept(pairs.cotangent), pairs.added)

    def _stacked(self, backend: Backend, carry: Any) -> JointInfluence[Any, Any]:
        """Return the pairs as a stack, with rank one too."""
        sides: Any = carry.tangent, carry.cotangent
        if self.rank == 1:
            sides = backend.map(lambda leaf: leaf[None], sides)
        return JointInfluence(sides[0], sides[1], carry.added)
