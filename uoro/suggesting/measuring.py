"""The measurement of all estimators, within a budget of seconds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from uoro.algebra import size
from uoro.errors import UOROError
from uoro.estimator import guarantee_of
from uoro.estimators.recommending import Facts, Row
from uoro.estimators.spelling import Choice, parse_estimator
from uoro.suggesting.candidates import reference_for
from uoro.suggesting.moments import moments_of
from uoro.suggesting.subject import Reference, Subject
from uoro.suggesting.trial import Trial

FEWEST = 3
"""Fewest replicas whose spread is a standard error."""
TURNS = 7
"""Number of times that each estimator is timed, in turns with the others."""
ALWAYS = 4
"""Number of estimators that are measured even if the budget is over."""
MEASURING, SHARE = 0.8, 0.2
"""Shares of the budget: until the last estimator begins, and for one estimator."""


class Measuring:
    """The measurement of all estimators, within a budget."""

    def __init__(
        self,
        trial: Trial,
        facts: Facts,
        replicas: int,
        begun: float,
        budget: float,
        say: Callable[[str], None],
    ) -> None:
        self._trial, self._facts, self._replicas = trial, facts, replicas
        self._begun, self._budget, self._say = begun, budget, say
        self._known = dict[str, Subject]()
        self.compared_with = ""

    def _over(self, share: float) -> bool:
        return perf_counter() - self._begun > share * self._budget

    def _affordable(self, subject: Subject) -> int:
        """Return how many replicas there is time for; the first block compiles."""
        subject.seconds()
        whole = subject.seconds() * self._trial.count
        return int(min(self._replicas, SHARE * self._budget / whole))

    def reference(self) -> Reference:
        """Compute the gradient that others are compared with."""
        name, exact = reference_for(self._facts, self._trial.count)
        self._say(f"the reference, {name}")
        subject = Subject(self._trial, parse_estimator(name), 0)
        if exact:
            self._known[name] = subject
            self.compared_with = f"against the exact ones of {name}."
            return subject.reference(1, True)
        count = max(2, self._affordable(subject))
        self.compared_with = (
            f"against means of {count} replicas of {name}, as exact ones are not affordable."
        )
        return subject.reference(count, False)

    def rows(
        self, choices: list[Choice], reference: Reference, left_out: dict[str, str]
    ) -> list[Row]:
        """Measure each estimator, while there is time; then time all of them in turns."""
        kept = list[tuple[Subject, Row]]()
        for number, choice in enumerate(choices):
            if self._over(MEASURING) and len(kept) >= ALWAYS:
                left_out[choice.name] = "no time left"
                continue
            self._say(f"{choice.name}, {number + 1} of {len(choices)}")
            try:
                subject = self._known.get(choice.name) or Subject(self._trial, choice, 1 + number)
                if not subject.fits:
                    left_out[choice.name] = f"fewer than three windows of {subject.width} items"
                    continue
                kept.append((subject, self._row(subject, reference)))
            except UOROError as error:
                left_out[choice.name] = str(error).partition(". ")[0]
        return self._timed(kept)

    def _row(self, subject: Subject, reference: Reference) -> Row:
        affordable = self._affordable(subject)
        numbers, choice = subject.numbers, subject.choice
        row = Row(
            choice.name,
            guarantee_of(choice.estimator),
            numbers=numbers,
            memory=numbers / size(self._trial.backend, self._trial.params),
        )
        replicas = affordable if subject.draws else 1
        if subject.draws and replicas < FEWEST:
            return row
        found = moments_of(subject.products(replicas, reference)[0])
        return replace(
            row,
            bias=found.bias.value,
            bias_error=found.bias.error,
            noise=found.noise.value,
            noise_error=found.noise.error,
            replicas=replicas,
        )

    def _timed(self, kept: list[tuple[Subject, Row]]) -> list[Row]:
        """Time a block of each estimator in turns."""
        times: list[list[float]] = [[] for _ in kept]
        for turn in range(TURNS):
            if turn and self._over(1.0):
                break
            self._say(f"times, turn {turn + 1} of {TURNS}")
            order = list(zip(kept, times, strict=True))
            for (subject, _), seen in order if turn % 2 else reversed(order):
                seen.append(subject.seconds())
        return [_with_times(row, seen) for (_, row), seen in zip(kept, times, strict=True)]


def _with_times(row: Row, seen: list[float]) -> Row:
    low = median = high = seen[0]
    if len(seen) > 1:
        low, median, high = statistics.quantiles(seen, n=4, method="inclusive")
    return replace(row, seconds=median, seconds_low=low, seconds_high=high)
