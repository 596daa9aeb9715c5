"""The gradient of a loss that comes after its step, as a pytree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from uoro.arguments import mismatch
from uoro.errors import StructureError
from uoro_jax.trees import conjugate, moving

Gradient = Callable[..., Any]
"""Function ``(params, carry, item, cotangent) -> gradient``, compared by equality."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "carry", "item"],
    meta_fields=["gradient", "output"],
)
@dataclass(frozen=True)
class Pullback:
    """Returns the gradient of any loss of a step's output, whenever the loss is known.

    A pytree of what the step received, which a scan carry can hold. The gradient is that at the
    parameters of the step. It holds the parameters and the carry, for UORO 2 P numbers for P
    parameters, and runs the step again.

    Attributes:
        params: Parameters of the step.
        carry: Carry that the step arrived with.
        item: Item of the step.
        gradient: Gradient of the step, a function of the three and of a cotangent.
        output: Structure, shapes and dtypes of the output's tangent.
    """

    params: Any
    carry: Any
    item: Any
    gradient: Gradient = field(repr=False)
    output: Form = field(repr=False)

    def __call__(self, cotangent: Any) -> Any:
        """Estimate the gradient of a loss of the output.

        Args:
            cotangent: ∂ℓ/∂o, what ``jax.grad(loss)(output)`` returns. Complex leaves follow the
                convention of `jax.grad`, here and in the gradient.

        Returns:
            The gradient, shaped like the params.

        Raises:
            StructureError: If the cotangent is not shaped like the output.
        """
        cotangent = self.output.require(cotangent)
        pulled = self.gradient(self.params, self.carry, self.item, conjugate(cotangent))
        return cast_like(self.params, conjugate(pulled))


@dataclass(frozen=True)
class Form:
    """Structure, shapes and dtypes of a tree of arrays.

    Attributes:
        structure: Structure of the tree.
        leaves: Shape and dtype of each leaf.
    """

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, output: Any) -> Form:
        """Return the form of the tangents of an output."""
        leaves, structure = jax.tree.flatten(moving(output))
        return cls(structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))

    def require(self, cotangent: Any) -> Any:
        """Return a cotangent as arrays of this form.

        Raises:
            StructureError: If it has another structure, or a leaf has another shape.
        """
        call, hint = "Pullback(cotangent)", "Pass jax.grad(loss)(output)."
        leaves, structure = jax.tree.flatten(moving(cotangent))
        if structure != self.structure:
            expected = f"the structure of the output, {self.structure}"
            raise StructureError(mismatch(call, "", expected, str(structure), hint))
        for leaf, (shape, _) in zip(leaves, self.leaves, strict=True):
            if jnp.shape(leaf) != shape:
                expected, got = f"a leaf of shape {shape}", f"shape {jnp.shape(leaf)}"
                raise StructureError(mismatch(call, "", expected, got, hint))
        made = [jnp.asarray(x, dtype) for x, (_, dtype) in zip(leaves, self.leaves, strict=True)]
        return jax.tree.unflatten(structure, made)


def cast_like(params: Any, gradient: Any) -> Any:
    """Return a gradient in the dtypes of the params."""
    return jax.tree.map(lambda like, leaf: leaf.astype(like.dtype), params, gradient)
