"""Relative variance of gradient estimates, against the exact gradient and not the sample mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import entry, repeat, size
from uoro.arguments import mismatch
from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import RTRL, UORO, JointUORO, KroneckerSum, RollingTruncated
from uoro.estimators.spelling import parse_estimator
from uoro.lab.jobs import JobSettings, Report
from uoro.lab.reproduce.measured_model import MeasuredModel
from uoro.registry import load_backend

# Runs whose pairs are held at once: so many that their numbers stay below this.
NUMBERS_AT_ONCE = 2e7
STEPS_AT_ONCE = 250


def square(backend: Backend, tree: Any) -> Any:
    """Return the sum of squares."""
    return backend.inner(tree, tree)


def difference(backend: Backend, x: Any, y: Any) -> Any:
    """Return ``x - y``."""
    return backend.combine((1.0, x), (-1.0, y))


def noise_in_time(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Train, fix the params, and run many times over the same items from the zero state.

    Signs do not change the hidden state, so all runs share the states, and one pass gives the exact
    gradient with every estimate of it.

    Returns:
        ``relative_variance``: for each step, ``mean ‖g̃ - g‖² / ‖g‖²``, without the first
        ``skipped`` steps; ``mean_error``: for each step, ``‖mean g̃ - g‖² / ‖g‖²``, which for an
        unbiased estimate is the former divided by the number of runs; ``training_loss``: mean
        loss over the last tenth of training.
    """
    if settings["items"] % STEPS_AT_ONCE:
        call, got = "noise_in_time(settings)", str(settings["items"])
        raise SettingError(mismatch(call, "items", f"a multiple of {STEPS_AT_ONCE}", got))
    backend, runs = load_backend(settings["backend"], device=settings["device"]), settings["reruns"]
    with backend.precision(settings["dtype"]):
        model = MeasuredModel(settings)
        dynamics = model.dynamics
        share = settings["train_items"] / (settings["train_items"] + 500 * settings["items"])
        (params,), loss = model.train([settings["train_items"]], lambda done: report(share * done))
        items = model.items(settings["items"])
        estimator, exact = UORO(), RTRL()

        def body(carried: Any, item: Any) -> Any:
            state, influence, pairs = carried
            inputs, drawn = item
            influence, after, truth = exact.step(dynamics, params, influence, state, inputs, None)

            def one(pair: Any, signs: Any) -> Any:
                pair, _, estimate = estimator.step(dynamics, params, pair, state, inputs, signs)
                return pair, estimate.gradient

            pairs, gradients = backend.vmap(one)(pairs, drawn)
            errors = backend.vmap(lambda g: difference(backend, g, truth.gradient))(gradients)
            mean = backend.map(lambda leaf: leaf.mean(0), errors)
            spread = backend.vmap(lambda error: square(backend, error))(errors)
            seen = spread.mean(), square(backend, mean), square(backend, truth.gradient)
            return (after, influence, pairs), seen

        @backend.compile
        def stretch(carried: Any, items: Any, number: Any) -> Any:
            signs = model.draw(estimator, number, STEPS_AT_ONCE, runs)
            return backend.scan(body, carried, (items, signs))

        carried = (
            model.state,
            exact.init(dynamics, params, model.state),
            repeat(backend, estimator.init(dynamics, params, model.state), runs),
        )
        seen = []
        for number in range(settings["items"] // STEPS_AT_ONCE):
            stop = (number + 1) * STEPS_AT_ONCE
            part = entry(backend, items, slice(stop - STEPS_AT_ONCE, stop))
            carried, each = stretch(carried, part, number)
            seen.append([np.asarray(leaf, np.float64) for leaf in backend.to_host(each)])
            report(share + (1 - share) * stop / settings["items"])
    spread, mean, true = (
        np.concatenate(column)[settings["skipped"] :] for column in zip(*seen, strict=True)
    )
    return {
        "device": backend.device,
        "runs": runs,
        "training_loss": loss,
        "relative_variance": _short(spread / true),
        "mean_error": _short(mean / true),
    }


def noise_by_units(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Run an untrained network for a few steps, many times.

    Backpropagation through all steps gives the exact gradient of the last loss.

    Returns:
        ``relative_variance`` of the last step's gradient, and its standard error over the runs.
    """
    backend = load_backend(settings["backend"], device=settings["device"])
    with backend.precision(settings["dtype"]):
        model = MeasuredModel(settings)
        dynamics, steps, runs = model.dynamics, settings["steps"], settings["reruns"]
        items, estimator = model.items(steps, start=settings["start"]), UORO()

        # An argument, as a compiler folds constants slowly.
        zero = backend.zeros(model.params)
        first = entry(backend, items, 0)

        def last(estimator: Estimator, params: Any, zero: Any, carry: Any, signs: Any) -> Any:
            def body(carried: Any, item: Any) -> Any:
                state, carry, _ = carried
                inputs, drawn = item
                carry, state, estimate = estimator.step(
                    dynamics, params, carry, state, inputs, drawn
                )
                return (state, carry, estimate.gradient), None

            return backend.scan(body, (model.state, carry, zero), (items, signs))[0][2]

        through_all = RollingTruncated(steps)
        truth = backend.compile(partial(last, through_all))(
            model.params,
            zero,
            through_all.init(dynamics, model.params, model.state, inputs=first),
            None,
        )
        at_once = max(1, min(runs, int(NUMBERS_AT_ONCE // size(backend, model.params))))

        @backend.compile
        def errors(params: Any, zero: Any, pair: Any, truth: Any, number: Any) -> Any:
            def one(signs: Any) -> Any:
                found = last(estimator, params, zero, pair, signs)
                return square(backend, difference(backend, found, truth))

            return backend.vmap(one)(model.draw(estimator, number, at_once, steps))

        pair = estimator.init(dynamics, model.params, model.state)
        seen: list[float] = []
        while len(seen) < runs:
            number = len(seen) // at_once
            seen += backend.to_host(errors(model.params, zero, pair, truth, number)).tolist()
            report(min(1.0, len(seen) / runs))
        relative = np.array(seen[:runs]) / float(square(backend, truth))
    return {
        "device": backend.device,
        "runs": runs,
        "parameters": size(backend, model.params),
        "relative_variance": float(relative.mean()),
        "standard_error": float(relative.std(ddof=1) / math.sqrt(runs)),
    }


def noise_by_estimator(settings: JobSettings, report: Report) -> dict[str, Any]:
    """Compare estimators of one quantity: the gradient of the summed losses of a window.

    A window has as many items as the longest memory; an estimator of shorter memory adds up its
    gradients over the window. The params are fixed, at several stages of training.

    Returns:
        ``relative_variance``: for each estimator, and for each stage, the sum over the windows of
        ``mean ‖g̃ - g‖²`` divided by that of ``‖g‖²``; and its standard error over the runs.
    """
    backend = load_backend(settings["backend"], device=settings["device"])
    names, length = settings["estimators"], settings["window"]
    found: dict[str, list[float]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    with backend.precision(settings["dtype"]):
        model = MeasuredModel(settings)
        stages, _ = model.train(settings["stages"], lambda done: report(done / 2))
        items = model.items(settings["windows"] * length)
        windows = backend.map(lambda leaf: leaf.reshape((-1, length, *leaf.shape[1:])), items)
        through = _exact(model, length)
        measures = {name: _measure(model, name, length, settings) for name in names}
        for number, params in enumerate(stages):
            truth = through(params, windows)
            true = np.asarray(backend.to_host(backend.vmap(partial(square, backend))(truth)))
            total = true.astype(np.float64)[settings["skipped_windows"] :].sum()
            for name in names:
                spread = measures[name](params, windows, truth)
                each = spread[settings["skipped_windows"] :].sum(0) / total
                found[name].append(float(each.mean()))
                errors[name].append(float(each.std(ddof=1) / math.sqrt(each.size)))
                report(0.5 + (number + len(found[name]) / len(stages)) / len(stages) / 2)
    return {
        "device": backend.device,
        "stages": settings["stages"],
        "relative_variance": found,
        "standard_error": errors,
    }


def _exact(model: MeasuredModel, length: int) -> Callable[..., Any]:
    """Return a function that computes the exact gradient of each window, by RTRL."""
    backend, whole, exact = model.backend, unroll(model.dynamics, length), RTRL()

    @backend.compile
    def through(params: Any, windows: Any) -> Any:
        def body(carried: Any, window: Any) -> Any:
            state, influence = carried
            influence, after, truth = exact.step(whole, params, influence, state, window, None)
            return (after, influence), truth.gradient

        start = model.state, exact.init(whole, params, model.state)
        return backend.scan(body, start, windows)[1]

    return through


def _measure(
    model: MeasuredModel, name: str, length: int, settings: JobSettings
) -> Callable[..., Any]:
    """Return a function that computes the squared errors of each window and run."""
    backend, choice, runs = model.backend, parse_estimator(name), settings["reruns"]
    estimator, span = choice.estimator, choice.span or 1
    dynamics: Dynamics[Any, Any, Any] = unroll(model.dynamics, span) if span > 1 else model.dynamics
    pairs = estimator.rank if isinstance(estimator, (UORO, JointUORO, KroneckerSum)) else 1
    pairs *= 3 if isinstance(estimator, KroneckerSum) else 1
    numbers = pairs * size(backend, model.params)
    at_once = max(1, min(runs, int(NUMBERS_AT_ONCE // numbers)))

    def cut(window: Any) -> Any:
        if span == 1:
            return window
        return backend.map(lambda leaf: leaf.reshape((-1, span, *leaf.shape[1:])), window)

    def body(params: Any, carried: Any, item: Any) -> Any:
        state, carries = carried
        window, signs, truth = item

        def one(carry: Any, signs: Any) -> Any:
            def step(carried: Any, item: Any) -> Any:
                state, carry, total = carried
                inputs, drawn = item
                carry, state, estimate = estimator.step(
                    dynamics, params, carry, state, inputs, drawn
                )
                return (
                    state,
                    carry,
                    backend.combine((1.0, total), (1.0, estimate.gradient)),
                ), None

            start = state, carry, backend.zeros(params)
            (after, carry, total), _ = backend.scan(step, start, (cut(window), signs))
            return carry, after, square(backend, difference(backend, total, truth))

        carries, after, spread = backend.vmap(one)(carries, signs)
        return (entry(backend, after, 0), carries), spread

    @backend.compile
    def measure(params: Any, windows: Any, truth: Any, number: Any) -> Any:
        first = entry(backend, cut(entry(backend, windows, 0)), 0)
        carry = estimator.init(dynamics, params, model.state, inputs=first)
        start = model.state, repeat(backend, carry, at_once)
        signs = model.draw(estimator, number, settings["windows"], at_once, length // span)
        return backend.scan(partial(body, params), start, (windows, signs, truth))[1]

    def all_runs(params: Any, windows: Any, truth: Any) -> Any:
        batches = [
            np.asarray(backend.to_host(measure(params, windows, truth, number)), np.float64)
            for number in range(-(-runs // at_once))
        ]
        return np.concatenate(batches, axis=1)[:, :runs]

    return all_runs


def _short(values: Any) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
