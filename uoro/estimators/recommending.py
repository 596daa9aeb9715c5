"""Which estimator fits a model: one rule, on the model's sizes and on what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from uoro.algebra import size
from uoro.derivatives.finding_locality import find_locality
from uoro.derivatives.structure import find_structure
from uoro.dynamics import Dynamics
from uoro.errors import StructureError
from uoro.estimator import Guarantee
from uoro.estimators.block_rtrl import require_local

MATTERS = 0.01
"""Squared bias, in squared gradients, from which on a bias matters: a tenth of the gradient."""
EXACT_WORTH = 1.5
"""How many times the time of the best other an exact gradient is worth."""
BIASED_WORTH = 0.5
"""Share of the best unbiased estimator's cost up to which a biased one is worth it."""
SMALL = 4_000_000
"""Multiply-adds of a step up to which exact RTRL is taken unmeasured."""
AFFORDABLE = 200_000_000
"""Multiply-adds of a step up to which a Kronecker sum is taken unmeasured."""


@dataclass(frozen=True)
class Facts:
    """The structure and the sizes of a model, which cost a few pullbacks to find.

    Attributes:
        coordinates: Number of coordinates of the hidden state, n.
        params: Number of numbers in the params.
        local: Whether no unit moves another one within a step, so that `BlockRTRL` fits.
        rows: Number of rows of all matrices that a Kronecker sum carries as terms, Σm.
        columns: Numbers of the params that a Kronecker sum carries exactly, n numbers for each.
    """

    coordinates: int
    params: int
    local: bool
    rows: int
    columns: int

    @property
    def dense_work(self) -> int:
        """Multiply-adds of a step of exact RTRL, n² for each of the params."""
        return self.coordinates**2 * self.params

    def kronecker_work(self, rank: int) -> int:
        """Return the multiply-adds of a step of ``KroneckerSum(rank)``."""
        pushed = self.coordinates**2 * (rank * self.rows + self.columns)
        return pushed + self.coordinates * self.params

    def kronecker_numbers(self, rank: int) -> int:
        """Return about how many numbers ``KroneckerSum(rank)`` carries."""
        return self.coordinates * (rank * self.rows + self.columns)


def facts_of(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> Facts:
    """Find the structure and the sizes of a model.

    Args:
        dynamics: Model.
        params: θ.
        state: Hidden state of one stream.
        inputs: One item of the stream.

    Raises:
        DerivativeError: If no derivative of the model is finite.
    """
    backend, point = dynamics.backend, (params, state, inputs)
    leaves = find_structure(dynamics, *point).leaves
    outer = [leaf for leaf in leaves if leaf.kind == "outer"]
    whole = [leaf for leaf in leaves if leaf.kind in ("exact", "dense")]
    return Facts(
        size(backend, state),
        size(backend, params),
        _is_local(dynamics, *point),
        sum(math.prod(leaf.output_shape) for leaf in outer),
        sum(math.prod(leaf.shape) for leaf in whole),
    )


def _is_local(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> bool:
    """Return whether units do not move each other; of one unit alone that says nothing."""
    try:
        locality = require_local(find_locality(dynamics, params, state, inputs))
    except StructureError:
        return False
    return len(locality.colours) < locality.size


@dataclass(frozen=True)
class Row:
    """What was measured of one estimator; NaN for what was not.

    Attributes:
        spelling: Estimator, as on the command line.
        guarantee: What the estimator declares of its gradient.
        bias: Squared bias of the gradient, ``Σ‖E g̃ - g‖² / Σ‖g‖²`` over the steps. The estimate
            has no bias of its own, and may be negative where the bias is none.
        bias_error: Standard error of the bias.
        noise: Relative variance of the gradient, ``Σ E‖g̃ - E g̃‖² / Σ‖g‖²``.
        noise_error: Standard error of the noise.
        seconds: Time of a step on one item: state, loss and gradient, no optimizer; the median.
        seconds_low: Lower quartile of the time.
        seconds_high: Upper quartile of the time.
        numbers: Number of numbers carried.
        memory: The same in multiples of the params.
        replicas: Number of runs with signs of their own.
    """

    spelling: str
    guarantee: Guarantee
    bias: float = math.nan
    bias_error: float = math.nan
    noise: float = math.nan
    noise_error: float = math.nan
    seconds: float = math.nan
    seconds_low: float = math.nan
    seconds_high: float = math.nan
    numbers: int = 0
    memory: float = math.nan
    replicas: int = 0

    @property
    def cost(self) -> float:
        """Seconds times the root mean square of the gradient, ``√(1 + noise) · seconds``.

        Adam divides by that root: in noise a step goes less far, and it takes more of them.
        """
        return math.sqrt(1.0 + max(self.noise, 0.0)) * self.seconds


@dataclass(frozen=True)
class Recommendation:
    """One estimator, and the reason.

    Attributes:
        spelling: Estimator, as on the command line; ``None`` if none meets the request.
        reason: Reason, in words.
    """

    spelling: str | None
    reason: str


def recommended(
    facts: Facts,
    rows: Sequence[Row] = (),
    *,
    trained: bool = False,
    noise: float | None = None,
    seconds: float | None = None,
) -> Recommendation:
    """Recommend one estimator, by one rule.

    1. Where units do not move each other: ``block``, which is exact and as fast as UORO.
    2. Of the unbiased estimators, the one of least cost, ``√(1 + noise) · seconds``; exact
       RTRL instead, if it takes at most `EXACT_WORTH` times that.
    3. A biased estimator in its place only if the network is trained, its squared bias and twice
       the standard error are at most `MATTERS`, and it has at most `BIASED_WORTH` of that cost; it
       is then named as biased. A network that has not learnt yet to remember has little bias with
       a window that is too short, and will never learn to with it: there, the reason names it
       alone.

    Without rows the sizes stand in for 2: ``rtrl`` up to `SMALL` multiply-adds a step, else
    ``kron:2`` up to `AFFORDABLE`, else ``joint:4``. Nothing is measured, and nothing biased
    recommended.

    Args:
        facts: Structure and sizes of the model.
        rows: What was measured.
        trained: Whether the rows are of a network that remembers as long as it is ever to.
        noise: Largest acceptable squared error, bias and noise together; default any.
        seconds: Longest acceptable time of a step; default any.
    """
    if not rows:
        return _by_sizes(facts)
    measured = [row for row in rows if math.isfinite(row.cost) and math.isfinite(row.bias)]
    if not measured:
        return Recommendation(None, "Nothing could be measured. Take more items, or more seconds.")
    fast = [row for row in measured if seconds is None or row.seconds <= seconds]
    if not fast:
        least = _least(measured, lambda row: row.seconds)
        return Recommendation(
            None,
            f"No estimator takes {seconds:.3g} seconds or less: {least.spelling} takes "
            f"{least.seconds:.3g}.",
        )
    quiet = [row for row in fast if noise is None or _error(row) <= noise]
    if not quiet:
        least = _least(fast, _error)
        return Recommendation(
            None,
            f"No estimator has a squared error of {noise:.3g} or less: {least.spelling} has "
            f"{_error(least):.3g}.",
        )
    return _by_cost(facts, quiet, trained)


def _by_sizes(facts: Facts) -> Recommendation:
    if facts.local:
        return Recommendation("block", _LOCAL)
    if facts.dense_work <= SMALL:
        return Recommendation(
            "rtrl",
            f"The model is small: exact RTRL takes {facts.dense_work:,} multiply-adds a step.",
        )
    work = facts.kronecker_work(2)
    if facts.rows and work <= AFFORDABLE:
        return Recommendation(
            "kron:2", f"Unbiased, nearly exact, and affordable: {work:,} multiply-adds a step."
        )
    why = "Unbiased, at a cost that grows with the params alone; the model is large."
    return Recommendation("joint:4", why)


_LOCAL = "Units do not move each other: this is exact, and takes about as long as UORO."


def _by_cost(facts: Facts, rows: list[Row], trained: bool) -> Recommendation:
    fair = [row for row in rows if row.guarantee != "biased"]
    biased = [row for row in rows if row.guarantee == "biased"]
    named = {row.spelling: row for row in fair}
    if facts.local and "block" in named:
        return Recommendation("block", _LOCAL)
    small = [row for row in biased if row.bias + 2 * row.bias_error <= MATTERS]
    if not fair:
        if not small or not trained:
            other = "the bias of the others matters" if trained or not small else _UNTRAINED
            return Recommendation(None, f"No unbiased estimator is within reach, and {other}.")
        return _of_biased(_least(small, lambda row: row.cost), None)
    best = _least(fair, lambda row: row.cost)
    exact = named.get("rtrl")
    if exact is not None and exact.cost <= EXACT_WORTH * best.cost:
        best = exact
    cheap = sorted((row for row in small if row.cost < best.cost), key=lambda row: row.cost)
    if trained and cheap and cheap[0].cost <= BIASED_WORTH * best.cost:
        return _of_biased(cheap[0], best)
    if best.guarantee == "exact":
        times = best.seconds / min(row.seconds for row in fair)
        why = "Exact, and the fastest of the unbiased estimators measured."
        if times > 1.0:
            why = f"Exact, at {times:.2g} times the time of the fastest unbiased estimator."
    else:
        why = (
            f"Unbiased, with a noise of {best.noise:.2g}, and of the unbiased estimators the one "
            "of least √(1 + noise) · time."
        )
    rest = _of_cheap(cheap[0], best) if cheap else _of_rest(best, biased)
    return Recommendation(best.spelling, f"{why} {rest}".rstrip())


def _of_biased(row: Row, best: Row | None) -> Recommendation:
    """Recommend a biased estimator, with what that means."""
    beside = (
        "" if best is None else f", at {row.cost / best.cost:.2g} of the cost of {best.spelling}"
    )
    return Recommendation(
        row.spelling,
        f"Biased, by {max(row.bias, 0.0):.2g} of the squared gradient, which is below what "
        f"matters ({MATTERS}){beside}. It cannot learn to remember what it does not see.",
    )


_UNTRAINED = "whether the bias of the others matters is seen on a trained network"


def _of_cheap(row: Row, best: Row) -> str:
    """Return which biased estimator would be enough, were the network trained."""
    return (
        f"{row.spelling} is biased by only {max(row.bias, 0.0):.2g} of the squared gradient here, "
        f"at {row.cost / best.cost:.2g} of the cost: enough for a trained network, but it cannot "
        "learn to remember what it does not see."
    )


def _of_rest(best: Row, biased: list[Row]) -> str:
    """Return why none of the faster biased estimators is recommended."""
    faster = [row for row in biased if row.cost < best.cost]
    if not faster:
        return ""
    least = _least(faster, lambda row: row.bias)
    return (
        f"Of the faster biased ones {least.spelling} has the least bias, {least.bias:.2g} of the "
        "squared gradient, which no time averages out."
    )


def _error(row: Row) -> float:
    return max(row.bias, 0.0) + max(row.noise, 0.0)


def _least(rows: Iterable[Row], key: Callable[[Row], float]) -> Row:
    return min(rows, key=key)
