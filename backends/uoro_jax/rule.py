"""The derivative of a step, for JAX: the online gradient in place of backpropagation in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from uoro.errors import DerivativeError
from uoro_jax.pullback import cast_like
from uoro_jax.trees import conjugate, moving

Advance = Callable[..., tuple[Any, Any]]
"""Function ``(params, carry, item, signs) -> (carry, Prediction)``."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def predict(
    advance: Advance, params: Any, carry: Any, item: Any, signs: Any
) -> tuple[Any, Any, Any]:
    """Take a step that JAX can differentiate.

    The derivative of the output by the params is the gradient that the prediction of the step
    returns. All other derivatives are zero.

    Args:
        advance: One step.
        params: Parameters.
        carry: Carry before the step.
        item: Item of the stream.
        signs: Random signs of the step, as the estimator draws them.

    Returns:
        The next carry, the output, and the transition's third output or ``None``.
    """
    carry, prediction = advance(params, carry, item, signs)
    return carry, prediction.output, prediction.aux


class _Program(NamedTuple):
    """The gradient as a function of the cotangent: a program, and the arrays that it reads."""

    program: Any
    structure: Any

    def __call__(self, arrays: Any, cotangent: Any) -> Any:
        run = jaxpr_as_fun(ClosedJaxpr(self.program, arrays))
        return jax.tree.unflatten(self.structure, run(*jax.tree.leaves(cotangent)))


def _forth(advance: Advance, params: Any, carry: Any, item: Any, signs: Any) -> Any:
    """Take a step, and keep its gradient as arrays and a program that reads them."""
    carry, prediction = advance(params, carry, item, signs)

    def pull(cotangent: Any) -> Any:
        return cast_like(params, conjugate(prediction.gradient(conjugate(cotangent))))

    program, shape = jax.make_jaxpr(pull, return_shape=True)(moving(prediction.output))
    function = _Program(program.jaxpr, jax.tree.structure(shape))
    kept = jax.tree_util.Partial(function, program.consts)  # type: ignore[no-untyped-call]  # JAX's own
    return (carry, prediction.output, prediction.aux), kept


def _back(advance: Advance, kept: Any, cotangents: Any) -> tuple[Any, None, None, None]:
    """Return the gradient; ``None`` is a derivative that is zero."""
    _, of_output, _ = cotangents
    return kept(moving(of_output)), None, None, None


predict.defvjp(_forth, _back)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def without_derivative(call: str, params: Any) -> Any:
    """Return params by which JAX refuses to differentiate.

    The derivative by JAX of what `OnlineGradient.predict` and `OnlineGradient.step` return would be
    that of one step alone, without a word.
    """
    return params


@without_derivative.defjvp
def _refuse(call: str, primals: Any, tangents: Any) -> Any:
    raise DerivativeError(
        f"{call}(params, …): expected a call that JAX does not differentiate, got one under "
        "jax.grad, jax.vjp or jax.jvp; it would be the gradient of this step alone. Differentiate "
        "a loss of core(params, carry, item, key), or use the pullback of predict and the gradient "
        "of step."
    )
