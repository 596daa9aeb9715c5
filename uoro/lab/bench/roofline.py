"""The roofline of a step: the least time for its memory traffic and its arithmetic.

The roofline is a lower bound. The count assumes a step written by hand for the model, in which all
passes that can be shared are shared:

- **Reading.** The forward pass reads the weights of the matrix products once per character. A
  Jacobian-vector product (JVP) shares that reading and yields ``∂ℓ/∂s · s̃`` as well, so that no
  transposed product is needed with a memory of one step. A window of T steps adds one reading for
  each of the T - 1 steps backward, shared by all cotangents. Streams share every reading.
- **Updating.** Every update reads and writes the params, the optimizer's moments (two numbers per
  param for Adam) and each θ̃ once: the estimated gradient is dense, so all of them change. The
  gradient and the pulled-back signs are outer products that need not be written; the norm of θ̃ can
  be accumulated while θ̃ is written. Exact RTRL reads and writes the dense influence, state by
  params, at every step.
- **Arithmetic.** Two operations per weight for a product with a vector, one for an outer product
  (two if added to another), 13 per param for Adam, 7 per number of θ̃ (for the gradient, the update
  and the norm). A root or a division counts as one operation.

Every step counts on its own: it reads the params, and reads them again for the update. Hidden
states, their cotangents, items, biases during the forward pass, and the embedding table, of which a
step looks up one row, are left out. The least time is the larger of two: bytes read over the read
throughput plus bytes updated over the update throughput, for arrays as large as the working set,
in the cache or not; and operations over the throughput of a matrix product. Latency is not counted:
a model of few units waits for one number after another, and takes many times its roofline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

ADAM_SLOTS = 2
ADAM_OPERATIONS = 13  # first moment 3, second 4, correction, root, ε, step, division, difference
PAIR_OPERATIONS = 7  # rate · θ̃ and its sum 2, θ̃/ρ0 + θ̃'/ρ1 3, the square and its sum 2


class Sizes(NamedTuple):
    """Size of a model.

    Attributes:
        params: Number of parameters.
        weights: Number of parameters in matrices that a step multiplies by.
        state: Number of state coordinates.
    """

    params: int
    weights: int
    state: int


@dataclass(frozen=True)
class Work:
    """Work of a row.

    Attributes:
        kind: Forward pass alone, truncated BPTT, UORO, or exact RTRL.
        span: T, characters per update.
        rank: Number of pairs of UORO.
        streams: Number of streams.
    """

    kind: Literal["forward", "truncated", "uoro", "rtrl"]
    span: int = 1
    rank: int = 1
    streams: int = 1


class Roofline(NamedTuple):
    """Least work for one character of all streams together.

    Attributes:
        read: Count of numbers that are only read.
        updated: Count of numbers that are read and written; each counts once.
        operations: Count of arithmetic operations.
        touched: Count of numbers that an update touches: the working set.
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
        """Return the least time, in seconds.

        Args:
            itemsize: Size of a number, in bytes.
            read_throughput: Bytes read per second.
            update_throughput: Bytes read plus bytes written, per second.
            operation_throughput: Operations per second.
        """
        moved = itemsize * (self.read / read_throughput + 2 * self.updated / update_throughput)
        return max(moved, self.operations / operation_throughput)


def least(work: Work, sizes: Sizes) -> Roofline:
    """Return the roofline of a row, by the rules of this module.

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
