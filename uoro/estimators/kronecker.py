"""Kronecker sums: an unbiased online gradient that is nearly exact, from n pullbacks a step."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from uoro.algebra import coordinates, in_full, size, where, working_precision
from uoro.arguments import (
    leaf_name,
    mismatch,
    require_carry,
    require_count,
    require_flag,
    require_item,
    require_methods,
    require_model,
)
from uoro.derivatives.jacobians import take_jacobians
from uoro.derivatives.part import PartialDynamics
from uoro.derivatives.sharing import find_sharing
from uoro.derivatives.structure import LeafStructure, Structure, find_structure
from uoro.dynamics import Dynamics, Inputs, Outcome, Params, State
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimator, Guarantee, Sampler
from uoro.estimators.auto import require_estimator
from uoro.estimators.kronecker_carry import (
    DRAWS,
    KroneckerInfluence,
    KroneckerSigns,
    advance_influence,
    influenced,
    no_terms,
    structure_of,
)
from uoro.estimators.kronecker_pairs import Terms, gradient_of, terms_of, weigh_rows
from uoro.estimators.pair import require_signs
from uoro.prediction import Prediction, Stepping

Rest: TypeAlias = Literal["exact", "refuse"] | Estimator
"""What is done with leaves of the params without structure."""


@dataclass(frozen=True)
class KroneckerSum(Stepping):
    """Unbiased online estimate of the gradient, nearly exact, from n VJPs a step.

    A weight matrix W that is used once a step, in ``z = W a``, moves the next state by ``D ⊗ a``
    within the step, where D is ∂s'/∂z (n × m) and a the vector that W multiplies. Its influence
    on the state is therefore carried as a sum of r terms, ``Σ_ρ A_ρ ⊗ u_ρ``, and one step

    1. pushes the terms forward, ``A_ρ -> J A_ρ``, with J = ∂s'/∂s, and adds ``D ⊗ a``;
    2. reduces the r + 1 terms to r, without bias and with the least variance: the strongest
       directions are kept as they are, and only weak ones share places at random;
    3. estimates the gradient with the *old* terms, ``Σ_ρ (c A_ρ) ⊗ u_ρ + ∂ℓ/∂θ``, c = ∂ℓ/∂s.

    D and a are found in the Jacobian of the model, whatever the model is
    (`uoro.derivatives.structure`). Vectors, such as biases, are carried exactly. Leaves that do not
    reach the state cost nothing.

    Cost of a step: n VJPs, r n² multiply-adds for each row of a weight matrix, and a singular value
    decomposition of an (r + 1) × (r + 1) matrix for each leaf. Carried are about r numbers for each
    entry of an n × m matrix, where `RTRL` carries n for each entry of the params.

    Args:
        rank: Number of terms of each leaf, r; default 2. Rank 1 is Kronecker-factored RTRL.
        rest: What is done with a leaf without that structure, such as a matrix that is used
            several times a step: ``"exact"``, n rows shaped like the leaf, as `RTRL` carries them;
            ``"refuse"``, an error; or an estimator for those leaves alone, such as ``UORO()``.
        group: Whether leaves that share D, such as the maps and the bias of one sum
            ``W x + U h + b``, are carried by one sum of terms: fewer numbers and less time, and
            more noise, since also biases are then carried by terms.

    Raises:
        SettingError: If the rank is not a positive integer, ``rest`` is none of these, or
            ``group`` is no `bool`.

    Example:
        >>> from uoro import KroneckerSum, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(W, state, x):
        ...     next_state = xp.tanh(W @ state + x)
        ...     return next_state, xp.sum(next_state)
        >>> dynamics = backend.dynamics(transition)
        >>> W, state, x = 0.5 * xp.eye(2), xp.zeros(2), xp.array([1.0, -0.5])
        >>> estimator = KroneckerSum()
        >>> print(estimator.structure(dynamics, W, state, x).describe())
        the array (2 × 2): outer product, D of n × 2 and a of 2.
        >>> carry = estimator.init(dynamics, W, state, inputs=x)

    References:
        Benzing, Gauy, Mujika, Martinsson & Steger, "Optimal Kronecker-Sum Approximation of Real
        Time Recurrent Learning", ICML 2019, arXiv:1902.03993; here for any model, with the
        reduction of `uoro.estimators.reduction`.
        Mujika, Meier & Steger, "Approximating Real-Time Recurrent Learning with Random Kronecker
        Factors", NeurIPS 2018, arXiv:1805.10842: rank 1.
    """

    rank: int = 2
    _: KW_ONLY
    rest: Rest = "exact"
    group: bool = False
    needs_item: ClassVar[bool] = True

    def __post_init__(self) -> None:
        call = f"KroneckerSum(rank={spelled(self.rank)}, rest={spelled(self.rest)})"
        require_count(call, "rank", self.rank)
        require_flag(f"KroneckerSum(group={spelled(self.group)})", "group", self.group)
        if isinstance(self.rest, str):
            if self.rest not in ("exact", "refuse"):
                expected = "'exact', 'refuse', or an estimator"
                raise SettingError(mismatch(call, "rest", expected, spelled(self.rest)))
        else:
            require_estimator(call, self.rest)
            require_methods(
                call, "rest", self.rest, ("advance", "through"), "UORO() or JointUORO(k)"
            )

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"unbiased"``, or what the estimator of the rest guarantees if that is less."""
        biased = not isinstance(self.rest, str) and self.rest.guarantee == "biased"
        return "biased" if biased else "unbiased"

    def structure(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
    ) -> Structure:
        """Return the structure of a model, leaf by leaf; ``describe()`` says it in words.

        Args:
            dynamics: The model.
            params: Parameters.
            state: Hidden state of one stream.
            inputs: One item of the stream.

        Raises:
            DerivativeError: If no derivative of the model is finite.
        """
        find = find_sharing if self.group else find_structure
        return find(dynamics, params, state, inputs)

    def init(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        state: State,
        *,
        inputs: Inputs | None = None,
    ) -> KroneckerInfluence:
        """Return the zero influence, by the structure of the model.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`, or ``inputs`` is missing.
            StructureError: If a leaf of ``params`` or ``state`` is not an array, or a leaf of the
                params has no structure and ``rest`` is ``"refuse"``.
            DerivativeError: If no derivative of the model is finite.
        """
        require_model("KroneckerSum.init", dynamics, params, state)
        require_item("KroneckerSum.init", inputs, "the structure of the model")
        backend = dynamics.backend
        n, leaves = size(backend, state), dict(backend.named_leaves(params))
        terms, exact, rest = dict[str, Terms](), dict[str, Any](), dict[str, Any]()
        structure = self.structure(dynamics, params, state, inputs)
        sites = [site for site in map(structure.members, structure.groups) if self._many(site)]
        grouped = {leaf.name for site in sites for leaf in site}
        for leaf in structure:
            value: Any = leaves[leaf.name]
            kind = "terms" if leaf.name in grouped else self._carried_as(leaf)
            if kind == "terms":
                site = next((site for site in sites if leaf in site), [leaf])
                if leaf == site[0]:
                    terms[leaf.name] = no_terms(backend, leaves, site, n, self.rank)
            elif kind == "exact":
                exact[leaf.name] = backend.zeros(value, batch=(n,))
            elif kind == "rest":
                part = PartialDynamics(dynamics, params, leaf.name)
                rest[leaf.name] = self._of_rest.init(part, value, state, inputs=inputs)
        precision = working_precision(backend, (state, params))
        added = backend.from_host(0.0, dtype=precision)
        return KroneckerInfluence(terms, exact, rest, added)

    def draw(self, sampler: Sampler, state: Any) -> KroneckerSigns:
        """Draw the signs of the reductions, and those of the estimator of the rest."""
        terms = sampler(state, "signs", (DRAWS, self.rank + 2))
        rest = () if isinstance(self.rest, str) else self.rest.draw(sampler, state)
        return KroneckerSigns(terms, rest)

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: KroneckerInfluence,
        state: State,
        inputs: Inputs,
        signs: KroneckerSigns,
    ) -> tuple[KroneckerInfluence, State, Prediction]:
        """Advance all terms; the loss may come later.

        Args:
            dynamics: The model.
            params: θ.
            carry: The terms.
            state: s_t.
            inputs: One item of the stream.
            signs: Random signs, as `draw` returns them.

        Returns:
            The next terms, the next state, and the output with the gradient of any loss of it.

        Raises:
            StructureError: If the signs are not shaped like the state, or ``carry`` is no
                `KroneckerInfluence`.
            DerivativeError: If a leaf of the params has lost its structure. Where a compiler
                traces, output and gradient are NaN in that case.
        """
        backend = dynamics.backend
        require_carry("KroneckerSum.step", carry, KroneckerInfluence)
        batch = (DRAWS, self.rank + 2)
        require_signs("KroneckerSum.step", backend, signs.terms, state, batch)
        structure = structure_of(backend, params, carry)
        model = take_jacobians(dynamics, structure, params, state, inputs)
        with in_full(backend):
            after = advance_influence(backend, structure, model, carry, signs.terms, self.rank)
        after = after._replace(
            rest={
                name: self._of_rest.advance(
                    PartialDynamics(dynamics, params, name), value, carry.rest[name], state, inputs,
                    signs.rest,
                )[0]
                for name, value in backend.named_leaves(params)
                if name in carry.rest
            }
        )  # fmt: skip

        def gradient(cotangent: Any) -> Any:
            # From the terms as they arrived.
            immediate, state_gradient = model.pullback(None, cotangent)
            carried = self.through(dynamics, params, carry, state_gradient)
            whole = backend.combine((1.0, immediate), (1.0, carried))
            return model.unless_broken(backend, whole)

        outcome = model.outcome
        output = model.unless_broken(backend, outcome.output)
        outcome = Outcome(outcome.next_state, output, outcome.aux)
        return after, outcome.next_state, Prediction(backend, outcome, gradient)

    def through(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: KroneckerInfluence,
        state_gradient: State,
    ) -> Params:
        """Pull a gradient of the state back through the influence: ``Σ_ρ (c A_ρ) ⊗ u_ρ``."""
        backend = dynamics.backend
        row = coordinates(backend, backend.map(lambda leaf: leaf[None], state_gradient))[0]
        row = where(backend, influenced(backend, carry), row)
        names = iter([name for name, _ in backend.named_leaves(params)])

        def pull(zero: Any) -> Any:
            name = next(names)
            terms = terms_of(carry.terms, name, tuple(zero.shape))
            if terms is not None:
                return gradient_of(row, terms)
            if name in carry.exact:
                return weigh_rows(row, carry.exact[name])
            if name in carry.rest:
                part = PartialDynamics(dynamics, params, name)
                return self._of_rest.through(part, zero, carry.rest[name], state_gradient)
            return zero

        return backend.map(pull, backend.zeros(params))

    @property
    def _of_rest(self) -> Any:
        assert not isinstance(self.rest, str)
        return self.rest

    def _many(self, site: list[LeafStructure]) -> bool:
        """Return whether r terms are fewer numbers than the influence itself."""
        return sum(math.prod(leaf.input_shape) for leaf in site) > self.rank

    def _carried_as(self, leaf: LeafStructure) -> Literal["terms", "exact", "rest", "nothing"]:
        """Return how a leaf of the params is carried."""
        if leaf.kind == "none":
            return "nothing"
        if leaf.kind == "outer" and self._many([leaf]):
            return "terms"
        if leaf.kind != "dense" or self.rest == "exact":
            return "exact"
        if self.rest == "refuse":
            raise StructureError(
                f"KroneckerSum(rest='refuse').init: {leaf_name(leaf.name)} of the params: expected "
                "an outer product as its immediate Jacobian, as of a matrix that is used once a "
                "step, got none. Try rest='exact' or rest=UORO()."
            )
        return "rest"
