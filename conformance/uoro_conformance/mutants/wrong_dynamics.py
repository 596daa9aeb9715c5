"""Dynamics with one mistake each, and the check of derivatives that must refuse it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from uoro_conformance.systems import Trial

from uoro.algebra import entry
from uoro.derivatives.many import many


class Altered:
    """Dynamics with some methods replaced.

    Args:
        dynamics: The right dynamics.
        methods: The other methods, by name.
    """

    def __init__(self, dynamics: Any, **methods: Any) -> None:
        self.dynamics = dynamics
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        """Return what the right dynamics have."""
        if name.startswith("__") or name == "sweep":
            raise AttributeError(name)
        return getattr(self.dynamics, name)


class AlteredMany(Altered):
    """Dynamics that bring dynamics of many streams of their own."""

    def many(self) -> Any:
        """Return dynamics of many streams."""
        return self.of_many()


class WrongDynamics(NamedTuple):
    """A mistake in dynamics.

    Attributes:
        name: The mistake, in words.
        killed_by: One of `DERIVATIVE_KILLERS`: the check that must refuse it.
        build: From a trial to the wrong dynamics of its model.
    """

    name: str
    killed_by: str
    build: Callable[[Trial], Any]


def _pulled(change: Callable[..., tuple[Any, Any]]) -> Callable[[Trial], Any]:
    """Build dynamics whose pullback is changed.

    Args:
        change: From the backend, the right pullback, and cotangents of state and output to what is
            pulled back.
    """

    def build(trial: Trial) -> Any:
        dynamics = trial.dynamics

        def vjp(*at: Any) -> Any:
            outcome, pullback = dynamics.vjp(*at)
            return outcome, lambda *given: change(dynamics.backend, pullback, *given)

        return Altered(dynamics, vjp=vjp)

    return build


def _at_item(number: int, factor: float, what: str) -> Callable[[Trial], Any]:
    """Build dynamics with a derivative that is wrong at one item of the trial alone."""

    def build(trial: Trial) -> Any:
        dynamics, where = trial.dynamics, trial.items[number]["x"][0]
        backend = dynamics.backend

        def scale(inputs: Any) -> Any:
            return backend.xp.where(inputs["x"][0] == where, factor, 1.0)

        def vjp(params: Any, state: Any, inputs: Any) -> Any:
            outcome, pullback = dynamics.vjp(params, state, inputs)

            def pulled(*given: Any) -> Any:
                by_params, by_state = pullback(*given)
                return backend.combine((scale(inputs), by_params)), by_state

            return outcome, pulled

        def jvp(params: Any, state: Any, inputs: Any, tangent: Any) -> Any:
            pushed, rate = dynamics.jvp(params, state, inputs, tangent)
            return backend.combine((scale(inputs), pushed)), rate

        return Altered(dynamics, **{what: {"vjp": vjp, "jvp": jvp}[what]})

    return build


def _pulled_at(number: int, change: Callable[..., tuple[Any, Any]]) -> Callable[[Trial], Any]:
    """Build dynamics whose pullback is changed at one item of the trial alone."""

    def build(trial: Trial) -> Any:
        dynamics, where = trial.dynamics, trial.items[number]["x"][0]
        backend = dynamics.backend

        def vjp(params: Any, state: Any, inputs: Any) -> Any:
            outcome, pullback = dynamics.vjp(params, state, inputs)

            def pulled(*given: Any) -> Any:
                here = backend.xp.where(inputs["x"][0] == where, 1.0, 0.0)
                right, wrong = pullback(*given), change(backend, pullback, *given)
                return tuple(
                    backend.combine((1.0 - here, each), (here, other))
                    for each, other in zip(right, wrong, strict=True)
                )

            return outcome, pulled

        return Altered(dynamics, vjp=vjp)

    return build


def _length(backend: Any, tree: Any) -> Any:
    return backend.inner(tree, tree) ** 0.5


def _clipped(backend: Any, tree: Any, longest: float) -> Any:
    length = _length(backend, tree)
    factor = backend.xp.where(length > longest, longest / (length + (length == 0)), 1.0)
    return backend.combine((factor, tree))


def _flushed(backend: Any, tree: Any, shortest: float) -> Any:
    factor = backend.xp.where(_length(backend, tree) < shortest, 0.0, 1.0)
    return backend.combine((factor, tree))


def _clips(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    return tuple(_clipped(backend, part, 100.0) for part in pullback(state, output))


def _flushes(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    return tuple(_flushed(backend, part, 1e-5) for part in pullback(state, output))


def _clips_tangents(trial: Trial) -> Any:
    backend, dynamics = trial.dynamics.backend, trial.dynamics

    def jvp(params: Any, state: Any, inputs: Any, tangent: Any) -> Any:
        return dynamics.jvp(params, state, inputs, _clipped(backend, tangent, 100.0))

    return Altered(dynamics, jvp=jvp)


def _one_alone(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    if state is None:
        return pullback(None, backend.map(lambda leaf: leaf * 0 + 1.0, output))
    return pullback(state, output)


def _smaller_alone(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    by_params, by_state = pullback(state, output)
    return backend.combine((0.99 if output is None else 1.0, by_params)), by_state


def _drops_the_smaller(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    """Drop the cotangent of the output beside one of the state that is far larger."""
    if state is None or output is None:
        return pullback(state, output)
    small = _length(backend, output) < 1e-4 * _length(backend, state)
    return pullback(state, backend.combine((backend.xp.where(small, 0.0, 1.0), output)))


def _mapped(most: int) -> Callable[[Trial], Any]:
    """Build dynamics whose pullback, mapped over more than some pairs, repeats one of them."""

    def build(trial: Trial) -> Any:
        dynamics = trial.dynamics
        backend = dynamics.backend

        class Short:
            def __getattr__(self, name: str) -> Any:
                return getattr(backend, name)

            def vmap(self, function: Any) -> Any:
                def mapped(*stacks: Any) -> Any:
                    return backend.map(
                        _repeat_after(backend, most), backend.vmap(function)(*stacks)
                    )

                return mapped

        return Altered(dynamics, backend=Short())

    return build


def _repeat_after(backend: Any, most: int) -> Callable[[Any], Any]:
    def repeated(leaf: Any) -> Any:
        count = int(leaf.shape[0])
        return backend.xp.stack([leaf[min(index, most - 1)] for index in range(count)])

    return repeated


def _few_streams(trial: Trial) -> Any:
    """Build dynamics of many streams that pull the first four back alone."""
    dynamics = trial.dynamics
    backend = dynamics.backend
    right = many(dynamics)

    def vjp(params: Any, states: Any, items: Any) -> Any:
        outcome, pullback = right.vjp(params, states, items)

        def pulled(cotangents: Any, weights: Any) -> Any:
            by_params, by_states = pullback(cotangents, weights)
            return by_params, backend.map(_repeat_after(backend, 4), by_states)

        return outcome, pulled

    return AlteredMany(dynamics, of_many=lambda: Altered(right, vjp=vjp))


WRONG_DYNAMICS: tuple[WrongDynamics, ...] = (
    WrongDynamics("vjp a percent off at the second item alone", "true", _at_item(1, 1.01, "vjp")),
    WrongDynamics("vjp missing at the third item alone", "true", _at_item(2, 0.0, "vjp")),
    WrongDynamics("jvp a percent off at the third item alone", "adjoint", _at_item(2, 1.01, "jvp")),
    WrongDynamics("jvp of the wrong sign at the last item", "adjoint", _at_item(-1, -1.0, "jvp")),
    WrongDynamics("vjp clipped to 100", "linear", _pulled(_clips)),
    WrongDynamics("vjp below 1e-5 is zero", "linear", _pulled(_flushes)),
    WrongDynamics("vjp clipped at the third item alone", "linear", _pulled_at(2, _clips)),
    WrongDynamics("vjp flushed at the last item alone", "linear", _pulled_at(-1, _flushes)),
    WrongDynamics("jvp of tangents clipped to 100", "linear", _clips_tangents),
    WrongDynamics("the output's cotangent alone taken as 1", "linear", _pulled(_one_alone)),
    WrongDynamics("the state's cotangent alone pulls less", "linear", _pulled(_smaller_alone)),
    WrongDynamics("the smaller cotangent dropped", "linear", _pulled(_drops_the_smaller)),
    WrongDynamics("a map of seven pairs repeats the third", "mapped", _mapped(3)),
    WrongDynamics("many streams repeat the fourth", "many", _few_streams),
)
"""Each holds the laws at the sizes, the items and the combinations that are easily thought of."""


def _halved_and_doubled(backend: Any, pullback: Any, *given: Any) -> Any:
    """Pull half of the cotangents back, and double the result."""
    half = [None if each is None else backend.combine((0.5, each)) for each in given]
    return tuple(backend.combine((2.0, part)) for part in pullback(*half))


def _each_alone(backend: Any, pullback: Any, state: Any, output: Any) -> Any:
    """Pull both cotangents back by themselves, and add."""
    if state is None or output is None:
        return pullback(state, output)
    parts = zip(pullback(state, None), pullback(None, output), strict=True)
    return tuple(backend.combine((1.0, one), (1.0, other)) for one, other in parts)


def _of_entries(trial: Trial) -> Any:
    """Build dynamics of many streams that run each by itself."""
    dynamics = trial.dynamics
    backend = dynamics.backend
    right = many(dynamics)

    def vjp(params: Any, states: Any, items: Any) -> Any:
        outcome, _ = right.vjp(params, states, items)
        count = int(backend.named_leaves(states)[0][1].shape[0])
        at = [(entry(backend, states, n), entry(backend, items, n)) for n in range(count)]
        pulls = [dynamics.vjp(params, *each)[1] for each in at]

        def pulled(cotangents: Any, weights: Any) -> Any:
            given = [
                [None if x is None else entry(backend, x, n) for x in (cotangents, weights)]
                for n in range(count)
            ]
            each = [pull(*its) for pull, its in zip(pulls, given, strict=True)]
            summed = backend.combine(*((1.0, by_params) for by_params, _ in each))
            return summed, backend.map(
                lambda *leaves: backend.xp.stack(leaves), *(by_state for _, by_state in each)
            )

        return outcome, pulled

    return AlteredMany(dynamics, of_many=lambda: Altered(right, vjp=vjp))


RIGHT_DYNAMICS: dict[str, Callable[[Trial], Any]] = {
    "cotangents halved, results doubled": _pulled(_halved_and_doubled),
    "cotangents pulled back one by one": _pulled(_each_alone),
    "many streams one by one": _of_entries,
}
"""Dynamics that differ from the backend's in rounding alone."""
