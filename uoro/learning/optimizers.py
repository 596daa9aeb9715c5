"""SGD and Adam in backend-neutral arithmetic, so that every backend takes the same steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from uoro.algebra import working_precision
from uoro.arguments import require_number
from uoro.backend import Backend
from uoro.errors import spelled
from uoro.schedules import Schedule, as_schedule, learning_rate_at

Params = TypeVar("Params")


@dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent, ``θ ← θ - η(t) g``.

    Args:
        learning_rate: A learning rate or a schedule of it.

    Raises:
        SettingError: If the rate is neither a schedule nor a positive and finite number.

    Example:
        >>> from uoro import SGD, load_backend
        >>> from uoro.schedules import inverse_sqrt
        >>> backend = load_backend("autograd")
        >>> theta, one = backend.xp.array(0.0), backend.xp.array(1.0)
        >>> float(SGD(inverse_sqrt(0.75)).update(backend, theta, one, (), 4)[0])
        -0.25
    """

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        as_schedule(self.learning_rate, call=f"SGD({spelled(self.learning_rate)})")

    def init(self, backend: Backend, params: object) -> tuple[()]:
        """Make the empty memory."""
        return ()

    def update(
        self, backend: Backend, params: Params, gradient: Params, opt_state: tuple[()], time: Any
    ) -> tuple[Params, tuple[()]]:
        """Take one step downhill."""
        return backend.combine(
            (1.0, params), (-learning_rate_at(self.learning_rate, time), gradient)
        ), ()


class Moments(NamedTuple, Generic[Params]):
    """Adam's memory.

    Attributes:
        first: Running mean of the gradient.
        second: Running mean of its square.
        count: How many updates were made.
    """

    first: Params
    second: Params
    count: Any


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; the moments have the dtypes of the params.

    In bfloat16 the second moment does not decay, as 0.999 rounds to 1: use wider params there.

    Args:
        learning_rate: A learning rate or a schedule of it.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        epsilon: Added to the root of the second moment.

    Raises:
        SettingError: If the rate is not positive, a decay not in [0, 1), ε not positive, or one
            of them not a finite number.

    References:
        Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    """

    learning_rate: float | Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        as_schedule(self.learning_rate, call=f"Adam({spelled(self.learning_rate)})")
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            call = f"Adam({name}={spelled(beta)})"
            require_number(call, "decay", beta, "a number in [0, 1)", lambda x: 0 <= x < 1)
        call = f"Adam(epsilon={spelled(self.epsilon)})"
        require_number(call, "epsilon", self.epsilon, "a positive, finite number", lambda x: x > 0)

    def init(self, backend: Backend, params: Params) -> Moments[Params]:
        """Make zero moments."""
        # A floating count, so that its powers are exact enough in every framework; and one of the
        # params' precision, as a compiler would otherwise compute each entry in the wider one.
        count = backend.from_host(0.0, dtype=working_precision(backend, params))
        return Moments(backend.zeros(params), backend.zeros(params), count)

    def update(
        self,
        backend: Backend,
        params: Params,
        gradient: Params,
        opt_state: Moments[Params],
        time: Any,
    ) -> tuple[Params, Moments[Params]]:
        """Take one step downhill."""
        count = opt_state.count + 1
        first = backend.combine((self.beta1, opt_state.first), (1 - self.beta1, gradient))
        second = backend.map(
            lambda v, g: self.beta2 * v + (1 - self.beta2) * g * g, opt_state.second, gradient
        )
        step = learning_rate_at(self.learning_rate, time) / (1 - self.beta1**count)
        correction = 1 / (1 - self.beta2**count)
        params = backend.map(
            lambda p, m, v: p - step * m / ((v * correction) ** 0.5 + self.epsilon),
            params,
            first,
            second,
        )
        return params, Moments(first, second, count)
