"""Unbiased Online Recurrent Optimization: Algorithm 1 of the paper, with one pair or several."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, get_args

from uoro.arguments import (
    require_carry,
    require_choice,
    require_count,
    require_model,
    require_number,
)
from uoro.backend import Backend, Distribution
from uoro.derivatives.sweep import once, rates, read, sweep
from uoro.dynamics import Dynamics, Each, Inputs, Params, State, Sweep
from uoro.errors import spelled
from uoro.estimator import FormerGuarantee, Guarantee, Sampler
from uoro.estimators.baseline import Baseline, refuse_baseline, require_baseline
from uoro.estimators.former import accept_former_settings
from uoro.estimators.gradient import through_pairs
from uoro.estimators.pair import (
    Influence,
    Moment,
    PairDtype,
    loaded,
    merge,
    require_pair_dtype,
    require_signs,
)
from uoro.estimators.paired import Paired
from uoro.estimators.scaling import Scaling, require_scaling, scaled
from uoro.prediction import Prediction


@accept_former_settings
@dataclass(frozen=True)
class UORO(Paired):
    """Unbiased online estimate of the gradient, from one JVP and two VJPs a step.

    Carries a *pair* (s̃, θ̃), a tangent of the hidden state and a cotangent of the parameters,
    whose outer product estimates the influence of the parameters on the hidden state:
    ``E[s̃ ⊗ θ̃] = ∂s_t/∂θ``. One step from t to t+1:

    1. Run the model: s_{t+1} and ℓ, or another output.
    2. Estimate the gradient with the *old* pair: ``g̃ = (∂ℓ/∂s_t · s̃) θ̃ + ∂ℓ/∂θ``. It waits for
       the loss, if that is known later; the rest does not.
    3. Push the tangent forward, ``s̃' = ∂F/∂s_t · s̃``, and pull random signs ν back,
       ``θ̃' = νᵀ ∂F/∂θ``.
    4. Compute normalisers that balance the noise of both parts:
       ``ρ0 = sqrt(‖θ̃‖ / (‖s̃'‖ + ε)) + ε`` and ``ρ1 = sqrt(‖θ̃'‖ / (‖ν‖ + ε)) + ε``.
    5. Merge: ``s̃ ← ρ0 s̃' + ρ1 ν`` and ``θ̃ ← θ̃/ρ0 + θ̃'/ρ1``.

    The pair starts at zero, which is exact: the first state does not depend on θ.

    Args:
        rank: Number of pairs, k. The gradients of k independent pairs are averaged, which divides
            the variance by k (section 3.4 of the paper). With k > 1 both sides of the pair, and
            the signs, have a leading axis of length k. `JointUORO` has less variance at the same
            rank.
        distribution: Distribution of ν: ``"signs"``, ``"gaussian"`` or ``"spherical"``. The
            estimate is unbiased with each.
        epsilon: ε of the normalisers; positive. It is no step of finite differences.
        pair_dtype: Storage dtype of the pair, ``"bfloat16"``, ``"float16"``, ``"float32"`` or
            ``"float64"``. Default: that of the state for s̃ and that of the params for θ̃. A
            narrower dtype saves memory and rounds at every step, by 0.4 % in bfloat16.
            Derivatives and gradients have the dtypes of state and params.
        scaling: Positive factors of ν, coordinate by coordinate: ``None``, ``"rows"``, or a
            function ``(params, state, inputs) -> factors`` shaped like the state. ν is multiplied
            by them where it is added to s̃, and divided by them where it is pulled back; the
            estimate is unbiased with each. ``"rows"`` costs five more forward passes a step, and
            reduces the variance where the params move some units far more than others, as in a
            gated network (`uoro.estimators.scaling`, ``docs/which.md``).
        baseline: ``None``, or ``"diagonal"``: carry the influence of each entry of the params on
            the unit that it moves beside the pairs, which then estimate the rest. Unbiased, and a
            fraction of the variance; costs ``probes`` JVPs and a VJP per coordinate of a unit
            (`uoro.estimators.baseline`, ``docs/local.md``).
        probes: Number of random JVPs a step, for each coordinate of a unit, that estimate how units
            keep their own influence; more give less variance. Ignored without a baseline.

    Raises:
        SettingError: If the rank is not a positive integer, ε is not positive, or the
            distribution, the scaling or the dtype is unknown.

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
        arXiv:1702.05043: Algorithm 1, with ε where the paper has it.
        Cooijmans & Martens, "On the Variance of Unbiased Online Recurrent Optimization", 2019,
        arXiv:1902.02405: scaling of ν, there by any invertible matrix.
    """

    rank: int = 1
    _: KW_ONLY
    distribution: Distribution = "signs"
    epsilon: float = 1e-7
    pair_dtype: PairDtype | None = None
    scaling: Scaling | None = None
    baseline: Baseline | None = None
    probes: int = 1

    def __post_init__(self) -> None:
        require_count(f"UORO(rank={spelled(self.rank)})", "rank", self.rank)
        require_choice(
            f"UORO(distribution={spelled(self.distribution)})",
            "distribution",
            self.distribution,
            get_args(Distribution),
        )
        require_number(
            f"UORO(epsilon={spelled(self.epsilon)})",
            "epsilon",
            self.epsilon,
            "a positive, finite number (zero would divide by zero at the first step)",
            lambda x: x > 0,
        )
        require_pair_dtype("UORO", self.pair_dtype)
        require_scaling(f"UORO(scaling={spelled(self.scaling)})", self.scaling)
        require_baseline("UORO", self.baseline, self.probes)

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
    ) -> Influence[State, Params]:
        """Return the zero pair, or a stack of `rank` of them.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or the backend lacks `pair_dtype`.
            StructureError: If a leaf of ``params`` or ``state`` is not an array.
        """
        if self.baseline is not None:
            start: Influence[State, Params] = self._beside.init(
                dynamics, params, state, inputs=inputs
            )
            return start
        require_model("UORO.init", dynamics, params, state)
        backend = dynamics.backend
        return Influence(
            self._stored(backend, backend.zeros(state, batch=self._batch)),
            self._stored(backend, backend.zeros(params, batch=self._batch)),
        )

    def draw(self, sampler: Sampler, state: State) -> State:
        """Draw ν, shaped like the state, or a stack of `rank` of them."""
        if self.baseline is not None:
            drawn: State = self._beside.draw(sampler, state)
            return drawn
        return sampler(state, self.distribution, self._batch)

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Influence[State, Params],
        state: State,
        inputs: Inputs,
        signs: State,
    ) -> tuple[Influence[State, Params], State, Prediction]:
        """Advance the pair by the five steps of the class docstring; the loss may come later.

        Args:
            dynamics: The model.
            params: θ.
            carry: (s̃, θ̃).
            state: s_t.
            inputs: One item of the stream.
            signs: ν, as `draw` returns it.

        Returns:
            The next pair, the next state, and the output with the gradient of any loss of it.

        Raises:
            StructureError: If ν is not shaped like the state, or ``carry`` is no `Influence`.
        """
        if self.baseline is not None:
            after: tuple[Influence[State, Params], State, Prediction] = self._beside.advance(
                dynamics, params, carry, state, inputs, signs
            )
            return after
        backend = dynamics.backend
        require_carry("UORO.step", carry, Influence)
        require_signs("UORO.step", backend, signs, state, self._batch)
        # Steps 1 and 3: run the model, push s̃ forward, and get ready to pull ν back.
        model, nu = self._sweep(Moment(dynamics, params, carry, state, inputs, signs))

        # Step 2: the gradient, from the pair as it arrived.
        def gradient(cotangent: Any) -> Any:
            stacked = self.rank > 1
            tangent = loaded(backend, carry.tangent, signs, self.pair_dtype)
            immediate, weights = read(backend, model, tangent, cotangent, stacked=stacked)
            weights = weights / self.rank if stacked else weights
            return through_pairs(backend, immediate, weights, carry.cotangent, stacked=stacked)

        # Steps 4 and 5: normalise and merge.
        pair = self._merge(backend, carry, model, *nu)
        return pair, model.outcome.next_state, Prediction(backend, model.outcome, gradient)

    @property
    def _averaged(self) -> int:
        return self.rank

    def through(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: Influence[State, Params],
        state_gradient: State,
    ) -> Params:
        """Pull a gradient of the state back through the pairs: ``Σ_i <∂ℓ/∂s, s̃_i> θ̃_i / k``."""
        refuse_baseline("UORO.through", self.baseline)
        backend, stacked = dynamics.backend, self.rank > 1
        tangent = loaded(
            backend,
            carry.tangent,
            backend.zeros(state_gradient, batch=self._batch),
            self.pair_dtype,
        )
        weights = rates(backend, tangent, state_gradient, stacked=stacked) / self.rank
        like = backend.zeros(params)
        return through_pairs(backend, like, weights, carry.cotangent, stacked=stacked)

    def _advance(self, now: Moment) -> tuple[Influence[Any, Any], Sweep[Any, Any]]:
        """Do all of a step but the gradient."""
        model, nu = self._sweep(now)
        return self._merge(now.dynamics.backend, now.carry, model, *nu), model

    def _sweep(self, now: Moment) -> tuple[Sweep[Any, Any], tuple[Any, Any]]:
        """Take all derivatives of a step; return them with ν as it is added and as it is pulled."""
        dynamics, params, carry, state, inputs, signs = now
        tangent = loaded(dynamics.backend, carry.tangent, signs, self.pair_dtype)
        nu = scaled(self.scaling, dynamics, params, state, inputs, signs)
        each = self._each(dynamics.backend)
        return sweep(dynamics, params, state, inputs, tangent, nu[1], each), nu

    def _merge(
        self, backend: Backend, carry: Any, model: Sweep[Any, Any], added: Any, pulled: Any
    ) -> Influence[Any, Any]:
        """Merge each carried pair with a fresh one."""

        def one(pair: Any, pushed: Any, added: Any, pulled: Any, kept: Any) -> Influence[Any, Any]:
            pushed = self._stored(backend, pushed)
            return merge(
                backend, pair, pushed, added, lambda: model.pull(pulled, kept), self.epsilon
            )

        each = self._each(backend)
        pair: Influence[Any, Any] = each(one)(carry, model.pushed, added, pulled, model.kept)
        return pair

    def _each(self, backend: Backend) -> Each:
        return once if self.rank == 1 else backend.vmap
