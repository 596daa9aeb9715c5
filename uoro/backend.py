"""What the algorithms need of an array framework, and how a backend is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from uoro.dynamics import Dynamics

Tree = TypeVar("Tree")
Distribution: TypeAlias = Literal["signs", "gaussian", "spherical"]
"""Law of a random tree ν with E[ν νᵀ] = I: fair signs (the paper's), standard normal
coordinates, or a uniform direction of length sqrt(number of coordinates)."""


class Scalar(Protocol):
    """A framework's own real scalar: it takes part in ordinary arithmetic."""

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
    """A framework's own array, as far as the core looks at one."""

    @property
    def shape(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102


class Backend(Protocol):
    """A little vector algebra on trees of arrays, loops, random draws, and a border to NumPy.

    A *tree* is whatever the framework calls one: a JAX pytree, a dict of tensors, a tuple of
    arrays, a bare array. A *stack* is a tree every leaf of which has one more leading axis.
    Methods are pure: they never change an argument, and equal arguments give equal results.
    Backends, and the dynamics they make, are hashable: what is compiled is kept by them.

    A leaf of floating real numbers has one *coordinate* an entry, one of complex numbers two, its
    real and its imaginary part; any other (integers, booleans, keys) has none: it is carried along,
    and nothing is differentiated by it. A *tangent* of a tree, like a cotangent, has ``None`` in
    the place of leaves without coordinates. Inner product and norm are those of the coordinates.

    Everything else the algorithms do with trees is derived from these methods in
    `uoro.algebra`; an adapter has nothing more to supply. It may have two methods more, for speed:
    ``compile_step(function, donate=...)``, where `compile` is the identity, and `with_products` as
    the function of that name there.

    Attributes:
        name: The name it is registered under.
        device: Where its arrays live, in words: ``"cpu"``, ``"cuda:0"``.
        compiled: Whether `compile` compiles. If not, Python runs each step.
        xp: The framework's namespace of array functions (``numpy``-like), of which only those
            are used that ``autograd.numpy``, ``torch`` and ``jax.numpy`` spell the same way.
        lacks: What it cannot do, with the reason: ``"float32"``, ``"float64"``, ``"bfloat16"``, a
            `Law`, or a state with ``"integers"`` or ``"complex"`` numbers. The conformance suite
            then does not check what needs it, and says so.
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
        """Make `Dynamics` of a transition ``(params, state, inputs) -> (next_state, loss)``.

        Args:
            transition: A function differentiable by the framework, pure in its arguments.
            has_aux: Whether it returns a third element, passed on as `Outcome.aux`.
            check: Whether the dynamics probe the model at the first step with real numbers; see
                `uoro.derivatives.routes.Routed`. Without a choice of routes there is nothing to do.
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
            StructureError: If the trees do not have one structure.
        """
        ...

    def zeros(self, like: Tree, *, batch: tuple[int, ...] = ()) -> Tree:
        """Make the zero tangent of ``like``, in its dtypes, shaped ``batch + leaf.shape``."""
        ...

    def combine(self, *terms: tuple[Scalar | float, Tree]) -> Tree:
        """Add up ``scalar * tree`` over all terms, in the dtypes of the first tree.

        Products are formed in at least float32, so that a float16 or bfloat16 leaf meets a
        large or tiny factor without overflow on the way.
        """
        ...

    def matmul(self, weights: Any, matrix: Any) -> Any:
        """Multiply a vector or matrix with a matrix, in the wider of their dtypes."""
        ...

    def inner(self, x: Tree, y: Tree) -> Scalar:
        """Sum ``x * y`` over all coordinates of two tangents, in at least float32."""
        ...

    def with_norms(
        self, make: Callable[[], tuple[Any, ...]]
    ) -> tuple[tuple[Any, ...], Sequence[Scalar]]:
        """Build several trees, and compute the norm of each, together where that is faster.

        The norm is the Euclidean norm over all coordinates, in at least float32. The norm neither
        overflows nor underflows: for a finite tree that is not zero, the norm is finite and
        positive wherever the true norm is representable.

        Args:
            make: A function that builds the trees; a compiler may call the function again where a
                norm needs care.
        """
        ...

    # Loops.

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map ``function`` over the leading axis of every leaf of every argument.

        Trees it closes over are shared by all. Results come back as stacks.
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
            body: Takes one step.
            carry: What it starts from.
            items: A stack.
            reverse: Whether to go from the last item to the first.
            bounds: If given, only items from the first index up to but without the second are
                gone along, at least one. Where the framework compiles, both may be traced, and how
                many there are does not change what any of them gives, bit for bit.

        Returns:
            The last carry, and the outputs as a stack in the order of ``items``; of items out of
            bounds they are zero.
        """
        ...

    def compile(self, function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
        """Make ``function`` run fast when called many times; the identity where that is idle.

        Args:
            function: A pure function.
            donate: Whether its first argument may be overwritten, from the second call on: the
                caller will not look at it again.
        """
        ...

    # Randomness: a key is a value, and a draw is a function of its key.

    def key(self, seed: int) -> Any:
        """Make a key of an integer seed."""
        ...

    def fold(self, key: Any, number: Any) -> Any:
        """Derive the independent key numbered ``number`` (an integer >= 0, traced or not).

        Number 0 is another key than the one it is derived from.
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
            like: One tree, or with ``stacked=1`` a stack of them, and so on.
            distribution: What to draw.
            batch: Axes to add, each entry an independent draw; they follow the stacked ones.
            stacked: How many leading axes of ``like`` are stack axes already.
        """
        ...

    # The border.

    def from_host(self, tree: Any, *, dtype: str | None = None) -> Any:
        """Turn NumPy arrays and Python numbers into the framework's arrays on `device`.

        Args:
            tree: Leaves that are the framework's arrays already are moved, not copied.
            dtype: If given, floating leaves are cast to it: ``"float32"``, ``"float64"``.
        """
        ...

    def collect(self, items: Sequence[Any]) -> Any:
        """Stack a sequence of trees of host or framework arrays into one on `device`."""
        ...

    def to_host(self, tree: Any) -> Any:
        """Turn every leaf into a NumPy array."""
        ...

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """Enter a context in which arrays of ``dtype`` can be made, changing no global flag."""
        ...
