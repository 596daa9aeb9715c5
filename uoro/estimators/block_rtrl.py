"""Exact RTRL where units do not mix: element-wise and block-diagonal recurrences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uoro.algebra import working_precision
from uoro.arguments import leaf_name, mismatch
from uoro.backend import Backend
from uoro.derivatives.finding_locality import numbers
from uoro.derivatives.jacobians import if_sound
from uoro.derivatives.locality import Locality
from uoro.derivatives.routes import is_concrete
from uoro.derivatives.structure import rounding
from uoro.dynamics import Dynamics, Inputs, Moment, Outcome, Params, State
from uoro.errors import DerivativeError, StructureError
from uoro.estimator import Guarantee
from uoro.estimators.local_influence import (
    Local,
    LocalInfluence,
    advance_local,
    along,
    at_units,
    blocks_of,
    gradient_of,
    pull_rows,
    push_rows,
)
from uoro.prediction import Prediction


@dataclass(frozen=True)
class BlockRTRL(Local):
    """Exact online gradient of models whose units do not move each other within a step.

    Such are element-wise recurrences (linear recurrent units, S5, recurrent trace units, minGRU,
    eLSTM, IndRNN) and block-diagonal ones. With b coordinates a unit, the influence of an entry of
    the params is b numbers, those of the one unit that the entry moves:

        e_j' = Σ_l D_jl[u] e_l + E_j,      g = ∂ℓ/∂θ + Σ_j c_j[u] e_j.

    Let 1_j be one at coordinate j of every unit, and zero elsewhere. Then D_jl is coordinate j of
    the JVP of 1_l, E_j is the VJP of 1_j, and c = ∂ℓ/∂s.

    Which unit an entry moves is found at the model check. A model whose units mix is refused, with
    the size of the mixing; `structure` tells beforehand. At each step one further JVP and VJP, of
    numbers without a pattern, check that the model still has this locality.

    Cost of a step: b + 1 JVPs, b + 2 VJPs and b² products with the params. Carried are b numbers
    for each entry of the params that reaches the state, and none for a readout.

    A model that stops a gradient on purpose, built with ``check=False``, is element-wise in what
    it still differentiates. The gradient is then exact for the model with the gradient stopped,
    and biased for the model itself: with the recurrent input of the gates stopped, this is the
    rule of the LSTM of 1997, e-prop or RFLO (``docs/local.md``).

    Example:
        >>> from uoro import BlockRTRL, load_backend
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(params, state, x):  # A leaky unit for each entry of x.
        ...     next_state = params["decay"] * state + params["gain"] * x
        ...     return next_state, xp.sum(next_state)
        >>> dynamics = backend.dynamics(transition)
        >>> params = {"decay": xp.array([0.5, 0.9]), "gain": xp.ones(2)}
        >>> state, x = xp.zeros(2), xp.array([1.0, 2.0])
        >>> estimator = BlockRTRL()
        >>> print(estimator.structure(dynamics, params, state, x).describe())
        A unit has the coordinates the array.
        leaf 'decay' (2): an entry moves one unit of the array.
        leaf 'gain' (2): an entry moves one unit of the array.
        >>> carry = estimator.init(dynamics, params, state, inputs=x)
        >>> for _ in range(2):
        ...     carry, state, estimate = estimator.step(dynamics, params, carry, state, x, None)
        >>> [float(number) for number in estimate.gradient["decay"]]
        [1.0, 2.0]

    References:
        Mozer, "A focused backpropagation algorithm for temporal pattern recognition", 1989.
        Zucchet, Meier, Schug, Mujika & Sacramento, "Online learning of long-range dependencies",
        NeurIPS 2023, arXiv:2305.15947. Irie, Gopalakrishnan & Schmidhuber, "Exploring the promise
        and limits of real-time recurrent learning", ICLR 2024, arXiv:2305.19044.
    """

    @property
    def guarantee(self) -> Guarantee:
        """Return ``"exact"``."""
        return "exact"

    def advance(
        self,
        dynamics: Dynamics[Params, State, Inputs],
        params: Params,
        carry: LocalInfluence,
        state: State,
        inputs: Inputs,
        signs: None,
    ) -> tuple[LocalInfluence, State, Prediction]:
        """Advance the influence; the loss may come later.

        Returns:
            The next influence, the next state, and the output with the exact gradient of any loss
            of it.

        Raises:
            StructureError: If units mix, or the carry was made for another model.
            DerivativeError: If the model has lost its locality. Where a compiler traces, output
                and gradient are NaN in that case.
        """
        backend = dynamics.backend
        locality = self._accepted(dynamics, params, state, inputs)
        self._require_carry(locality, carry)
        point = Moment(params, state, inputs)
        rows = _rows(backend, locality, working_precision(backend, (state, params)))
        outcome, pullback = dynamics.vjp(*point)
        pushed = push_rows(dynamics, point, rows)
        pulled = pull_rows(backend, pullback, state, rows)
        sound = _still_local(dynamics, locality, rows[-1], pushed, pulled, point)
        blocks = blocks_of(pushed, locality)
        after = advance_local(backend, locality, blocks, carry, pulled)

        def gradient(cotangent: Any) -> Any:
            # From the influence as it arrived.
            whole = gradient_of(backend, locality, params, carry, pullback, cotangent)
            return if_sound(backend, sound, whole)

        output = if_sound(backend, sound, outcome.output)
        outcome = Outcome(outcome.next_state, output, outcome.aux)
        return after, outcome.next_state, Prediction(backend, outcome, gradient)

    def _accepted(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
    ) -> Locality:
        return require_local(self.structure(dynamics, params, state, inputs))


def require_local(locality: Locality) -> Locality:
    """Return the locality of a model whose units do not mix.

    Raises:
        StructureError: If they do.
    """
    reached, names = locality.reached(), [colour.name for colour in locality.colours]
    mixed = {pair: size for pair, size in locality.mixes.items() if pair[1] in reached}
    expected = "a model whose units do not move each other within a step"
    hint = "Try KroneckerSum(2), or JointUORO(4) for a large model."
    call = "BlockRTRL"
    if mixed:
        (j, source), size = max(mixed.items(), key=lambda each: each[1])
        got = (
            f"units of {names[source]} that move other units of {names[j]}: a relative difference "
            f"of {size:.2g} between the JVP and unit by unit products"
        )
        raise StructureError(mismatch(call, "", expected, got, hint))
    for leaf in locality.leaves:
        if leaf.mixes:
            j, size = max(leaf.mixes.items(), key=lambda each: each[1])
            got = (
                f"{leaf_name(leaf.name)} of the params, an entry of which moves several units of "
                f"{names[j]}: a relative difference of {size:.2g}"
            )
            raise StructureError(mismatch(call, "", expected, got, hint))
    return locality


def _rows(backend: Backend, locality: Locality, dtype: str) -> Any:
    """Return the selectors of all colours, and a row of numbers without a pattern to check by."""
    rows = locality.selectors(backend, dtype)
    reached = sum([rows[j] for j in sorted(locality.reached())], 0.0 * rows[0])
    last = numbers(backend, locality.size, 0, dtype) * reached
    return backend.xp.concatenate([rows, last[None]])


def _still_local(
    dynamics: Dynamics[Any, Any, Any],
    locality: Locality,
    row: Any,
    pushed: Any,
    pulled: dict[str, Any],
    point: Moment,
) -> Any:
    """Return whether the JVP and VJP of the last row are made of those of the other rows.

    Raises:
        DerivativeError: If they are not, and no compiler traces.
    """
    backend, colours = dynamics.backend, locality.colours
    xp = backend.xp
    allowed = rounding(backend, *point[:2])
    gaps = list[tuple[str, Any]]()
    for j, colour in enumerate(colours):
        whole = along(pushed[-1], colour)
        parts = [
            along(row, colours[source]) * along(pushed[source], colour)
            for source in range(len(colours))
            if (j, source) in locality.acts
        ]
        gaps.append((f"units of {colour.name}", _gap(xp, whole, parts)))
    for leaf in locality.leaves:
        parts = [
            at_units(xp, along(row, colours[j]), units) * pulled[leaf.name][j]
            for j, units in leaf.moves.items()
        ]
        gaps.append((leaf_name(leaf.name), _gap(xp, pulled[leaf.name][-1], parts)))
    if not is_concrete(dynamics, point):
        sound: Any = True
        for _, gap in gaps:
            sound = sound & (gap <= allowed)
        return sound
    for name, gap in gaps:
        if float(gap) > allowed:
            raise DerivativeError(
                f"transition(params, state, inputs): {name}: expected units that do not mix, as at "
                f"the model check, got a relative difference of {float(gap):.2g} from unit by unit "
                "products. The model depends on its items in another way than where it was checked."
            )
    return True


def _gap(xp: Any, whole: Any, parts: list[Any]) -> Any:
    """Return the largest difference of a whole from the sum of its parts, relative to all.

    Parts that nearly cancel leave their rounding behind, which a small whole does not excuse.
    """
    apart, largest = whole, xp.max(xp.abs(whole))
    for part in parts:
        apart = apart - part
        largest = xp.maximum(largest, xp.max(xp.abs(part)))
    return xp.max(xp.abs(apart)) / xp.where(largest > 0, largest, 1.0)
