"""SGD, Adam and gradient clipping in backend-neutral arithmetic: equal steps on every backend."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from uoro.algebra import norm, working_precision
from uoro.arguments import require_number, require_optimizer
from uoro.backend import Backend
from uoro.deprecation import renamed_keywords
from uoro.errors import spelled
from uoro.optimizer import Optimizer
from uoro.schedules import Schedule, as_schedule, learning_rate_at

Params = TypeVar("Params")
_POSITIVE = "a positive, finite number"


@renamed_keywords("SGD", {"rate": "learning_rate"})
@dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent, ``θ ← θ - η(t) g``.

    Args:
        learning_rate: Learning rate, a positive number or a schedule.

    Raises:
        SettingError: If the learning rate is neither a schedule nor a positive finite number.

    Example:
        >>> from uoro import SGD, load_backend
        >>> from uoro.schedules import inverse_sqrt
        >>> backend = load_backend("autograd")
        >>> theta, one = backend.xp.array(0.0), backend.xp.array(1.0)
        >>> float(SGD(inverse_sqrt(0.75)).update(backend, one, (), theta, 4)[0])
        -0.25
    """

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        as_schedule(self.learning_rate, call=f"SGD({spelled(self.learning_rate)})")

    def init(self, backend: Backend, params: object) -> tuple[()]:
        """Return the empty state."""
        return ()

    def update(
        self, backend: Backend, gradient: Params, opt_state: tuple[()], params: Params, time: Any
    ) -> tuple[Params, tuple[()]]:
        """Return the parameters after one step downhill, and the empty state."""
        return backend.combine(
            (1.0, params), (-learning_rate_at(self.learning_rate, time), gradient)
        ), ()


class Moments(NamedTuple, Generic[Params]):
    """State of Adam.

    Attributes:
        first: Running mean of the gradient, shaped like the parameters.
        second: Running mean of the square of the gradient, shaped like the parameters.
        count: Number of updates, a floating scalar.
    """

    first: Params
    second: Params
    count: Any


@renamed_keywords(
    "Adam",
    {"rate": "learning_rate", "beta1": "b1", "beta2": "b2", "epsilon": "eps"},
    positional=("b1", "b2", "eps"),
)
@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; the moments have the dtypes of the parameters.

    In bfloat16 the second moment never decays, because 0.999 rounds to 1: use wider parameters.

    Args:
        learning_rate: Learning rate, a positive number or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Positive number added to the root of the second moment.

    Raises:
        SettingError: If the learning rate is not positive, a decay not in [0, 1), ``eps`` not
            positive, or one of them not a finite number.

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    """

    learning_rate: float | Schedule
    _: KW_ONLY
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        as_schedule(self.learning_rate, call=f"Adam({spelled(self.learning_rate)})")
        for name, decay in (("b1", self.b1), ("b2", self.b2)):
            call = f"Adam({name}={spelled(decay)})"
            require_number(call, "decay", decay, "a number in [0, 1)", lambda x: 0 <= x < 1)
        call = f"Adam(eps={spelled(self.eps)})"
        require_number(call, "eps", self.eps, _POSITIVE, lambda x: x > 0)

    def init(self, backend: Backend, params: Params) -> Moments[Params]:
        """Return zero moments."""
        # A floating count, so that its powers are exact enough in every framework; and one of the
        # params' precision, as a compiler would otherwise compute each entry in the wider one.
        count = backend.from_host(0.0, dtype=working_precision(backend, params))
        return Moments(backend.zeros(params), backend.zeros(params), count)

    def update(
        self,
        backend: Backend,
        gradient: Params,
        opt_state: Moments[Params],
        params: Params,
        time: Any,
    ) -> tuple[Params, Moments[Params]]:
        """Return the parameters and the moments after one step downhill."""
        count = opt_state.count + 1
        first = backend.combine((self.b1, opt_state.first), (1 - self.b1, gradient))
        second = backend.map(
            lambda v, g: self.b2 * v + (1 - self.b2) * g * g, opt_state.second, gradient
        )
        step = learning_rate_at(self.learning_rate, time) / (1 - self.b1**count)
        correction = 1 / (1 - self.b2**count)
        params = backend.map(
            lambda p, m, v: p - step * m / ((v * correction) ** 0.5 + self.eps),
            params,
            first,
            second,
        )
        return params, Moments(first, second, count)


@dataclass(frozen=True)
class Clipped:
    """Clip the gradient to a largest global norm before an optimizer takes its step.

    The gradient g becomes ``g · min(1, max_norm / ‖g‖)``, where ‖g‖ is the Euclidean norm over all
    parameters together. A gradient within the norm is unchanged, bit for bit; one that is not
    finite stays so.

    Clipping makes the gradient biased: the mean of clipped estimates is not the clipped mean, so
    that an unbiased estimator is unbiased no more. A bound that is rarely reached costs little; a
    bound that most steps reach turns the mean of the gradient. A smaller learning rate or a higher
    rank lowers the noise without a bias.

    Args:
        optimizer: Optimizer that takes the clipped gradient, such as ``Adam(1e-3)``; its state is
            the state of `Clipped`.
        max_norm: Largest norm, positive.

    Raises:
        SettingError: If the norm is not a positive and finite number, or the optimizer is none.

    Example:
        >>> from uoro import SGD, Clipped, load_backend
        >>> backend = load_backend("autograd")
        >>> theta, steep = backend.xp.zeros(2), backend.xp.array([30.0, 40.0])
        >>> Clipped(SGD(1.0), 5.0).update(backend, steep, (), theta, 0)[0].tolist()
        [-3.0, -4.0]

    References:
        Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
        ICML 2013, Algorithm 1.
    """

    optimizer: Optimizer
    max_norm: float

    def __post_init__(self) -> None:
        call = f"Clipped(max_norm={spelled(self.max_norm)})"
        require_number(call, "max_norm", self.max_norm, _POSITIVE, lambda x: x > 0)
        object.__setattr__(self, "optimizer", require_optimizer(call, self.optimizer))

    def init(self, backend: Backend, params: Any) -> Any:
        """Return the state of the optimizer within."""
        return self.optimizer.init(backend, params)

    def update(
        self, backend: Backend, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Clip the gradient, and return what the optimizer within makes of it."""
        size: Any = norm(backend, gradient)
        # NaN compares false, and false times NaN is NaN: it goes through to whoever looks.
        excess = (size > self.max_norm) * (size - self.max_norm)
        clipped = backend.combine((self.max_norm / (self.max_norm + excess), gradient))
        return self.optimizer.update(backend, clipped, opt_state, params, time)
