"""What a step cannot avoid: the numbers it has to move, and the arithmetic on them.

A floor is a lower bound, so everything is counted as if the step were written by hand for the model
at hand, with every pass that can be shared shared:

- **Reading.** The weights of the matrix products are read once for each character on the way
  forward. A jvp shares that reading, and gives ``∂ℓ/∂s · s̃`` too, so that no transposed product is
  needed at memory one. With a window of T there is one reading for each of the T - 1 steps on the
  way back, which all cotangents share. Streams share every reading.
- **Updating.** The params, the optimizer's memory (two numbers a param for Adam) and each θ̃ are
  read once and written once for each update: the estimated gradient has no zeros, so each of them
  changes. The gradient itself, and the pulled back signs, are outer products that need never be
  written; the norm of θ̃ can be added up while it is written. Exact RTRL reads and writes the
  influence at each step, state by params, as dense as the estimator keeps it.
- **Arithmetic.** Two operations a weight for a product with a vector, one for an outer product (two
  where it is added to another), 13 a param for Adam, 7 a number of θ̃ (its share of the gradient,
  its update, its norm). A root or a division counts as one.

A step counts by itself: it is given the params, and reads them again to update them. States,
cotangents of the state, items, biases while reading, and the table of which a step looks up one row
are left out. Time is the larger of two: numbers read over the rate of reading plus numbers updated
over the rate of updating, in arrays as large as all that the step touches, which fit the cache
or do not; and operations over the rate of a matrix product. Latency is not
counted: what waits for one number after another, as models of a few units do, is many times above
its floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

ADAM_SLOTS = 2
ADAM_OPERATIONS = 13  # first moment 3, second 4, correction, root, ε, step, division, difference
PAIR_OPERATIONS = 7  # rate · θ̃ and its sum 2, θ̃/ρ0 + θ̃'/ρ1 3, the square and its sum 2


class Sizes(NamedTuple):
    """How large a model is, in numbers.

    Attributes:
        params: All that are trained.
        weights: Those of them in matrices that a step multiplies by.
        state: Coordinates of the state.
    """

    params: int
    weights: int
    state: int


@dataclass(frozen=True)
class Work:
    """What a row has to do.

    Attributes:
        kind: The forward pass alone, truncation, UORO, or exact RTRL.
        span: T, characters for each update.
        rank: Pairs of UORO.
        streams: Streams side by side.
    """

    kind: Literal["forward", "truncated", "uoro", "rtrl"]
    span: int = 1
    rank: int = 1
    streams: int = 1


class Roofline(NamedTuple):
    """The least that one character costs, of all streams together.

    Attributes:
        read: Numbers that are only read.
        updated: Numbers that are read and written; each counts once here.
        operations: Arithmetic.
        touched: Numbers in all that an update touches: the working set.
    """

    read: float
    updated: float
    operations: float
    touched: int

    def seconds(
        self,
        itemsize: int,
        *,
        read_throughput: float,
        update_throughput: float,
        operation_throughput: float,
    ) -> float:
        """Give the least time.

        Args:
            itemsize: Bytes of a number.
            read_throughput: Bytes a second that can be read.
            update_throughput: Bytes a second that can be read and written, both counted.
            operation_throughput: Operations a second.
        """
        moved = itemsize * (self.read / read_throughput + 2 * self.updated / update_throughput)
        return max(moved, self.operations / operation_throughput)


def least(work: Work, sizes: Sizes) -> Roofline:
    """Count what a row cannot avoid, as the head of this file says.

    Example:
        >>> least(Work("uoro"), Sizes(params=10, weights=8, state=2))
        Roofline(read=8.0, updated=40.0, operations=248.0, touched=40)
    """
    params, weights, state = sizes
    span, streams = work.span, work.streams
    if work.kind == "forward":
        return Roofline(float(weights), 0.0, 2.0 * weights * streams, weights)
    read = weights * (2 * span - 1)
    product, outer = 2 * weights, weights
    # Forward, back but for the last step, and an outer product for each step.
    backward = (span - 1) * product + (2 * span - 1) * outer
    model = span * product + backward
    carried, operations = 0, model * streams + ADAM_OPERATIONS * params
    if work.kind == "uoro":
        carried = work.rank * streams * params
        one_pair = span * product + backward + PAIR_OPERATIONS * params
        operations += work.rank * streams * one_pair
    if work.kind == "rtrl":
        carried = state * streams * params
        operations += streams * span * (2 * state * state * params + 2 * state * params)
    updated = (1 + ADAM_SLOTS) * params + carried * (span if work.kind == "rtrl" else 1)
    touched = (1 + ADAM_SLOTS) * params + carried
    return Roofline(read / span, updated / span, operations / span, touched)
