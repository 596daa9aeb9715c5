"""Derivatives written by hand: how each argument of a NumPy function acts on its result.

The rules are about plain arrays; what to record, and in which order to go, is the tape's affair.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Rule(NamedTuple):
    """The derivative of a function in one argument: a linear map, and its transpose.

    Each is given what it maps, the result y, and what the function was called with. It may leave
    axes of broadcasting to the tape, or a dtype that is too wide.

    Attributes:
        jvp: ``(t, y, *arguments, **options)``, a tangent of the argument to one of the result.
        vjp: ``(u, y, *arguments, **options)``, a cotangent of the result to one of the argument.
    """

    jvp: Callable[..., Any]
    vjp: Callable[..., Any]


def linear(function: Callable[..., Any], transpose: Callable[..., Any]) -> Rule:
    """Make the rule of a function that is linear in its first argument.

    Args:
        function: It is its own jvp.
        transpose: ``(u, x, ...)``, which may look at the shape of x, and at the options.
    """
    return Rule(
        lambda t, y, x, *how, **options: function(t, *how, **options),
        lambda u, y, x, *how, **options: transpose(u, x, *how, **options),
    )


# Transposes of what moves entries about.


def spread(u: Any, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Give what a reduction left of ``x`` the shape of ``x`` again."""
    if axis is not None and not keepdims:
        u = np.expand_dims(u, axis)
    return np.broadcast_to(u, x.shape)


def reshape_back(u: Any, x: Any, shape: Any = None, *, axis: Any = None) -> Any:
    """Undo a change of shape that keeps the order of the entries."""
    return u.reshape(x.shape)


def transpose_back(u: Any, x: Any, axes: Any = None) -> Any:
    """Undo a permutation of axes."""
    return np.transpose(u, None if axes is None else np.argsort(np.asarray(axes) % x.ndim))


def scatter(u: Any, x: Any, index: Any) -> Any:
    """Put back what was taken by index, adding up what was taken more than once."""
    whole = np.zeros(x.shape, u.dtype)
    np.add.at(whole, index, u)
    return whole


def part(number: int) -> Rule:
    """Make the rule of one of several arrays that are joined along an axis."""

    def place(arrays: Any, axis: int) -> Any:
        start = sum(array.shape[axis] for array in arrays[:number])
        along = slice(start, start + arrays[number].shape[axis])
        return (slice(None),) * (axis % arrays[number].ndim) + (along,)

    def embed(t: Any, y: Any, *arrays: Any, axis: int) -> Any:
        whole = np.zeros(y.shape, t.dtype)
        whole[place(arrays, axis)] = t
        return whole

    return Rule(embed, lambda u, y, *arrays, axis: u[place(arrays, axis)])


# What the rules of products, powers and choices have in common.


def as_matrices(u: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """See vectors in a product as matrices: a row on the left, a column on the right."""
    if b.ndim == 1:
        b, u = b[:, None], u[..., None]
    if a.ndim == 1:
        a, u = a[None, :], u[..., None, :]
    return u, a, b


def to_left(u: Any, y: Any, a: Any, b: Any) -> Any:
    """Pull a cotangent of ``a @ b`` back to ``a``."""
    u, _, columns = as_matrices(u, a, b)
    return u @ np.swapaxes(columns, -1, -2)


def to_right(u: Any, y: Any, a: Any, b: Any) -> Any:
    """Pull a cotangent of ``a @ b`` back to ``b``."""
    u, rows, _ = as_matrices(u, a, b)
    pulled = np.swapaxes(rows, -1, -2) @ u
    return pulled[..., 0] if b.ndim == 1 else pulled


def slope(a: Any, b: Any) -> Any:
    """Differentiate ``a ** b`` in ``a``; where b is 0 that is 0, even at ``a = 0``."""
    return b * a ** np.where(b, b - 1, 0)


def log_base(a: Any) -> Any:
    """Take the logarithm of a base; of one that is not positive, 0."""
    return np.log(np.where(a > 0, a, 1.0))


def above(a: Any, b: Any) -> Any:
    """Give 1 where ``a > b``, and one half where they are equal."""
    return (a > b) + 0.5 * (a == b)


def share(y: Any, x: Any, *how: Any, **options: Any) -> Any:
    """Divide 1 among the entries of ``x`` that equal the extreme ``y``."""
    chosen = x == spread(y, x, *how, **options)
    return chosen / spread(np.sum(chosen, *how, **options), x, *how, **options)


EXTREME = Rule(
    lambda t, y, x, *how, **options: np.sum(t * share(y, x, *how, **options), *how, **options),
    lambda u, y, x, *how, **options: spread(u, x, *how, **options) * share(y, x, *how, **options),
)

RULES: dict[Callable[..., Any], tuple[Rule | None, ...]] = {
    # One array, entry by entry.
    np.negative: (Rule(lambda t, y, x: -t, lambda u, y, x: -u),),
    np.absolute: (Rule(lambda t, y, x: t * np.sign(x), lambda u, y, x: u * np.sign(x)),),
    np.square: (Rule(lambda t, y, x: 2.0 * x * t, lambda u, y, x: 2.0 * x * u),),
    np.sqrt: (Rule(lambda t, y, x: 0.5 * t / y, lambda u, y, x: 0.5 * u / y),),
    np.exp: (Rule(lambda t, y, x: t * y, lambda u, y, x: u * y),),
    np.expm1: (Rule(lambda t, y, x: t * np.exp(x), lambda u, y, x: u * np.exp(x)),),
    np.log: (Rule(lambda t, y, x: t / x, lambda u, y, x: u / x),),
    np.log1p: (Rule(lambda t, y, x: t / (1.0 + x), lambda u, y, x: u / (1.0 + x)),),
    np.sin: (Rule(lambda t, y, x: t * np.cos(x), lambda u, y, x: u * np.cos(x)),),
    np.cos: (Rule(lambda t, y, x: -t * np.sin(x), lambda u, y, x: -u * np.sin(x)),),
    np.tanh: (Rule(lambda t, y, x: t * (1.0 - y * y), lambda u, y, x: u * (1.0 - y) * (1.0 + y)),),
    # Two arrays, entry by entry.
    np.add: (
        Rule(lambda t, y, a, b: t, lambda u, y, a, b: u),
        Rule(lambda t, y, a, b: t, lambda u, y, a, b: u),
    ),
    np.subtract: (
        Rule(lambda t, y, a, b: t, lambda u, y, a, b: u),
        Rule(lambda t, y, a, b: -t, lambda u, y, a, b: -u),
    ),
    np.multiply: (
        Rule(lambda t, y, a, b: t * b, lambda u, y, a, b: u * b),
        Rule(lambda t, y, a, b: a * t, lambda u, y, a, b: a * u),
    ),
    np.divide: (
        Rule(lambda t, y, a, b: t / b, lambda u, y, a, b: u / b),
        Rule(lambda t, y, a, b: -y * t / b, lambda u, y, a, b: -y * u / b),
    ),
    np.power: (
        Rule(lambda t, y, a, b: t * slope(a, b), lambda u, y, a, b: u * slope(a, b)),
        Rule(lambda t, y, a, b: t * y * log_base(a), lambda u, y, a, b: u * y * log_base(a)),
    ),
    # Choices.
    np.maximum: (
        Rule(lambda t, y, a, b: t * above(a, b), lambda u, y, a, b: u * above(a, b)),
        Rule(lambda t, y, a, b: t * above(b, a), lambda u, y, a, b: u * above(b, a)),
    ),
    np.minimum: (
        Rule(lambda t, y, a, b: t * above(b, a), lambda u, y, a, b: u * above(b, a)),
        Rule(lambda t, y, a, b: t * above(a, b), lambda u, y, a, b: u * above(a, b)),
    ),
    np.where: (
        None,
        Rule(lambda t, y, c, a, b: np.where(c, t, 0.0), lambda u, y, c, a, b: np.where(c, u, 0.0)),
        Rule(lambda t, y, c, a, b: np.where(c, 0.0, t), lambda u, y, c, a, b: np.where(c, 0.0, u)),
    ),
    np.clip: (
        Rule(lambda t, y, x, *_, **__: t * (x == y), lambda u, y, x, *_, **__: u * (x == y)),
    ),
    **dict.fromkeys((np.max, np.amax, np.min, np.amin), (EXTREME,)),
    # Sums and products.
    np.sum: (linear(np.sum, spread),),
    np.mean: (
        linear(np.mean, lambda u, x, *how, **o: spread(u, x, *how, **o) * (u.size / x.size)),
    ),
    np.matmul: (
        Rule(lambda t, y, a, b: t @ b, to_left),
        Rule(lambda t, y, a, b: a @ t, to_right),
    ),
    # Moves.
    operator.getitem: (linear(operator.getitem, scatter),),
    np.transpose: (linear(np.transpose, transpose_back),),
    np.swapaxes: (linear(np.swapaxes, lambda u, x, *axes: np.swapaxes(u, *axes)),),
    np.flip: (linear(np.flip, lambda u, x, *how, **options: np.flip(u, *how, **options)),),
    np.reshape: (linear(np.reshape, reshape_back),),
    np.ravel: (linear(np.ravel, lambda u, x: u.reshape(x.shape)),),
    np.squeeze: (linear(np.squeeze, reshape_back),),
    np.expand_dims: (linear(np.expand_dims, reshape_back),),
    np.broadcast_to: (linear(np.broadcast_to, lambda u, x, shape: u),),
    np.ndarray.astype: (linear(np.ndarray.astype, lambda u, x, dtype: u),),
}
"""The rules for the leading arguments of each function; None where it cannot be differentiated."""

FLAT: frozenset[Callable[..., Any]] = frozenset(
    (
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.sign, np.floor, np.ceil, np.isfinite, np.isnan, np.argmax, np.argmin),
        *(np.shape, np.ndim, np.size, np.zeros_like, np.ones_like),
    )
)
"""Functions whose derivative is zero wherever there is one: they give plain arrays."""
