"""A tape: what was computed, step by step, to be walked in either direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uoro_handmade.rules import Rule


class Step(NamedTuple):
    """One call of a function. An array to differentiate by is a step without links.

    Attributes:
        value: The array it gave.
        links: For each argument that is on the tape, its place there and the rule for it.
        arguments: The values of all arguments.
        options: The keyword arguments.
    """

    value: Any
    links: Sequence[tuple[int, Rule]] = ()
    arguments: Sequence[Any] = ()
    options: Mapping[str, Any] = {}


class Tape:
    """Steps in the order in which they were taken; the place of each is its number.

    Derivatives go in and come out by place. One that is not there is zero, and costs nothing.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def write(self, step: Step) -> int:
        """Add a step, and give its place."""
        self.steps.append(step)
        return len(self.steps) - 1

    def push(self, tangents: Iterable[tuple[int, Any]]) -> dict[int, Any]:
        """Walk forward, from the tangents of some arrays to those of all that depend on them."""
        found = self._start(tangents)
        for place, step in enumerate(self.steps):
            for source, rule in step.links:
                if source in found:
                    t = found[source]
                    pushed = rule.jvp(t, step.value, *step.arguments, **step.options)
                    self._add(found, place, pushed)
        return found

    def pull(self, cotangents: Iterable[tuple[int, Any]]) -> dict[int, Any]:
        """Walk back, from the cotangents of some arrays to those of all that they depend on."""
        found = self._start(cotangents)
        for place in reversed(range(len(self.steps))):
            if place in found:
                u, step = found[place], self.steps[place]
                for source, rule in step.links:
                    pulled = rule.vjp(u, step.value, *step.arguments, **step.options)
                    self._add(found, source, pulled)
        return found

    def _start(self, given: Iterable[tuple[int, Any]]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for place, derivative in given:
            self._add(found, place, derivative)
        return found

    def _add(self, found: dict[int, Any], place: int, derivative: Any) -> None:
        """Add to what was found at a place, in the shape and dtype of the array there."""
        derivative = fit(np.asarray(derivative), self.steps[place].value)
        found[place] = found[place] + derivative if place in found else derivative


def fit(derivative: Any, like: Any) -> Any:
    """Sum over the axes along which ``like`` was repeated, or repeat; then cast."""
    if derivative.shape != like.shape:
        derivative = derivative.sum(tuple(range(derivative.ndim - like.ndim)))
        axes = range(-derivative.ndim, 0)
        repeated = tuple(i for i in axes if derivative.shape[i] != like.shape[i] == 1)
        derivative = np.broadcast_to(derivative.sum(repeated, keepdims=True), like.shape)
    return derivative.astype(like.dtype, copy=False)
