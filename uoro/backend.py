"""The protocol of a backend: the arrays, loops and random draws of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from uoro.dynamics import Dynamics

Tree = TypeVar("Tree")
Distribution: TypeAlias = Literal["signs", "gaussian", "spherical"]
"""Distribution of a random tree ν with E[ν νᵀ] = I: fair signs (the paper's), standard normal
coordinates, or a uniform direction of length sqrt(number of coordinates)."""


class Scalar(Protocol):
    """A real scalar of a framework: supports ordinary arithmetic."""

    def __float__(self) -> float: ...
    def __abs__(self) -> Any: ...
    def __add__(self, other: Any, /) -> Any: ...
    def __radd__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __rtruediv__(self, other: Any, /) -> Any: ...
    def __pow__(self, other: Any, /) -> Any: ...


class Leaf(Protocol):
    """An array of a framework: the core reads its shape and its dtype."""

    @property
    def shape(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102


class Backend(Protocol):
    """Vector algebra on trees of arrays, loops, random draws, and conversion from and to NumPy.

    A *tree* is any container of arrays that the framework supports: a JAX pytree, a dict of
    tensors, a tuple of arrays, a bare array. A *stack* is a tree every leaf of which has one more
    leading axis. Methods are pure: no argument is changed, and equal arguments give equal results.
    Backends, and the dynamics they build, are hashable: compiled functions are cached by them.

    An entry of a real floating leaf has one *coordinate*, an entry of a complex leaf two (the real
    and the imaginary part). Other leaves (integers, booleans, keys) have no coordinates: they are
    carried along and never differentiated. A *tangent* or *cotangent* of a tree has ``None`` in
    the place of each leaf without coordinates. Inner products and norms are taken over coordinates.

    Every other operation on trees is derived from these methods in `uoro.algebra`. Optional
    methods have protocols of their own: `CompilesSteps`, `TakesProducts`, `FindsFactors`,
    `DropsPrograms`, `Coarsens`.

    Attributes:
        name: Name that the backend is registered under.
        device: Device of the arrays: ``"cpu"``, ``"cuda:0"``.
        compiled: Whether `compile` compiles. If not, Python runs each step.
        xp: Namespace of array functions (``numpy``-like). The core uses only functions that
            ``autograd.numpy``, ``torch`` and ``jax.numpy`` spell alike.
        lacks: What the backend does not support, with the reason: ``"float32"``, ``"float64"``,
            ``"bfloat16"``, a `Distribution`, or states with ``"integers"`` or ``"complex"``
            numbers. The conformance suite skips, and reports, the checks that need it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def compiled(self) -> bool: ...  # noqa: D102
    @property
    def xp(self) -> Any: ...  # noqa: D102
    @property
    def lacks(self) -> Mapping[str, str]: ...  # noqa: D102

    def dynamics(
        self, transition: Callable[..., Any], *, has_aux: bool = False, check: bool = True
    ) -> Dynamics[Any, Any, Any]:
        """Build `Dynamics` from a transition ``(params, state, inputs) -> (next_state, loss)``.

        Args:
            transition: Function that the framework can differentiate, pure in its arguments.
            has_aux: Whether the transition returns a third element, passed on as `Outcome.aux`.
            check: Whether the first step runs a model check; see
                `uoro.derivatives.routes.Routed`. Ignored where there is one autodiff mode only.
        """
        ...

    # Trees.

    def named_leaves(self, tree: Any) -> list[tuple[str, Leaf]]:
        """List the leaves in the framework's fixed order, each with a readable path."""
        ...

    def parts(self, leaf: Any) -> int:
        """Count the coordinates of an entry: 1 if real, 2 if complex, 0 if not differentiable."""
        ...

    def map(self, function: Callable[..., Any], tree: Tree, *others: Any) -> Tree:
        """Apply ``function`` leaf by leaf; each result keeps the dtype of ``tree``'s leaf.

        Raises:
            StructureError: If the trees differ in structure.
        """
        ...

    def zeros(self, like: Tree, *, batch: tuple[int, ...] = ()) -> Tree:
        """Build the zero tangent of ``like``, in its dtypes, shaped ``batch + leaf.shape``."""
        ...

    def combine(self, *terms: tuple[Scalar | float, Tree]) -> Tree:
        """Compute the sum of ``scalar * tree`` over all terms, in the dtypes of the first tree.

        Products are formed in at least float32, so that a float16 or bfloat16 leaf times a large
        or tiny factor does not overflow on the way.
        """
        ...

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply a vector or matrix with a matrix, in the wider of the two dtypes."""
        ...

    def inner(self, x: Tree, y: Tree) -> Scalar:
        """Sum ``x * y`` over all coordinates of two tangents, in at least float32."""
        ...

    def with_norms(
        self, make: Callable[[], tuple[Any, ...]]
    ) -> tuple[tuple[Any, ...], Sequence[Scalar]]:
        """Build several trees and compute the Euclidean norm of each, together where faster.

        Norms are accumulated in at least float32 and neither overflow nor underflow: the norm of
        a finite nonzero tree is finite and positive wherever the true norm is representable.

        Args:
            make: Function that builds the trees. A compiler may call the function twice.

        Returns:
            The trees, and their norms.
        """
        ...

    # Loops.

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map ``function`` over the leading axis of every leaf of every argument.

        Trees in the function's closure are shared by all entries. Results are stacks.
        """
        ...

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        items: Any,
        *,
        reverse: bool = False,
        bounds: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Run ``carry, output = body(carry, item)`` along the stack ``items``.

        Args:
            body: One step of the loop.
            carry: Initial carry.
            items: Stack of items.
            reverse: Whether to run from the last item to the first.
            bounds: First index and end index (exclusive) of the items to run, at least one; all
                items if ``None``. Where the framework compiles, both may be traced, and the
                number of items run does not change any output, bit for bit.

        Returns:
            The last carry, and the outputs as a stack in the order of ``items``; outputs out of
            bounds are zero.
        """
        ...

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Compile a pure function that is called many times; the identity in eager frameworks.

        Args:
            function: A pure function.
            donate: Whether the first argument may be overwritten, from the second call on. The
                caller must not read the argument afterwards.
        """
        ...

    # Randomness: a key is a value, and a draw is a function of its key.

    def key(self, seed: int) -> Any:
        """Build a key from an integer seed."""
        ...

    def fold(self, key: Any, number: Any) -> Any:
        """Derive the independent key numbered ``number`` (an integer >= 0, traced or not).

        The key numbered 0 differs from ``key`` itself.
        """
        ...

    def random(
        self,
        key: Any,
        like: Tree,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
    ) -> Tree:
        """Draw independent tangents from ``distribution``, in the dtypes of ``like``.

        Args:
            key: Equal keys give equal draws.
            like: One tree; with ``stacked=1`` a stack of trees, and so on.
            distribution: Distribution of the draw.
            batch: Axes to add, each entry an independent draw; they follow the stacked axes.
            stacked: Number of leading axes of ``like`` that are stack axes already.
        """
        ...

    # Conversion from and to NumPy.

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Convert NumPy arrays and Python numbers to the framework's arrays on `device`.

        Args:
            tree: Leaves that are the framework's arrays already are moved, not copied.
            dtype: Dtype that floating leaves are cast to: ``"float32"``, ``"float64"``. Not cast
                if ``None``.
        """
        ...

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack a sequence of trees of host or framework arrays into one stack on `device`."""
        ...

    def to_host(self, tree: Any) -> Any:
        """Convert every leaf to a NumPy array."""
        ...

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Return a context in which arrays of ``dtype`` can be built; no global flag is changed."""
        ...


@runtime_checkable
class CompilesSteps(Protocol):
    """An eager backend that can compile one step; `Backend.compile` is the identity there.

    Law: a compiled step returns what the function returns, up to rounding.
    """

    def compile_step(
        self, function: Callable[..., Any], *, donate: bool = False
    ) -> Callable[..., Any]:
        """Compile a pure function that advances a learner by one step.

        Args:
            function: A pure function.
            donate: Whether the first argument may be overwritten, from the second call on.
        """
        ...


@runtime_checkable
class TakesProducts(Protocol):
    """A backend with its own, faster `uoro.algebra.with_products`.

    Law: the results are those of `uoro.algebra.with_products`, up to rounding.
    """

    def with_products(
        self, carried: Any, make: Callable[[], Any]
    ) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Build a stack, and return inner products and combinations with the stack carried.

        Args:
            carried: A stack of k entries.
            make: Function that builds a stack of k entries like the carried ones.
        """
        ...


@runtime_checkable
class FindsFactors(Protocol):
    """A backend that finds outer products in what a function computes, without computing them.

    Law: the product of two factors is the leaf that they stand for, up to rounding.
    """

    def factors(
        self, make: Callable[[], Tree]
    ) -> tuple[Tree, list[tuple[Any, Any] | tuple[()] | None]]:
        """Run a function, and find the leaves of its result that are outer products or zero.

        Args:
            make: Function that builds a tree.

        Returns:
            The tree, and an entry for each of its leaves: two factors, each with as many axes as
            the leaf, whose product with broadcasting is the leaf; an empty tuple for a leaf that is
            zero whatever the numbers; ``None`` for any other leaf.
        """
        ...


@runtime_checkable
class DropsPrograms(Protocol):
    """A backend whose framework keeps compiled programs, and can drop them to free memory.

    Law: dropping changes no result; what is called afterwards is compiled again.
    """

    def drop_programs(self) -> None:
        """Drop all compiled programs of the process that the framework keeps."""
        ...


@runtime_checkable
class Coarsens(Protocol):
    """A backend whose models may compute in a coarser dtype than their params have.

    Law: the unit is that of the dtype in which a model that is called now computes.
    """

    def coarser_unit(self) -> float:
        """Return the unit of roundoff of that dtype; 0 where there is none."""
        ...

    def in_full(self) -> AbstractContextManager[Any]:
        """Return a context in which nothing is computed in a coarser dtype."""
        ...
