"""A law as a case: a name, what the backend must support, and a check to run in a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.estimator import Estimator
from uoro_conformance.explore import explore
from uoro_conformance.finding import Finding, not_checked, worst
from uoro_conformance.many import STREAMS, check_many
from uoro_conformance.profiles import Profile
from uoro_conformance.programs import drop_programs
from uoro_conformance.sweeps import check_sweep
from uoro_conformance.systems import System, Trial

LONGEST_MESSAGE = 500
"""Number of characters that are kept of an exception's message."""

PER_ESTIMATOR = ("exact", "parity", "streams", "prediction")
"""Kinds of laws whose compiled programs are those of one estimator."""

CheckOnTrial = Callable[[Trial, int], Finding]
"""Check of one trial; the second argument is the seed of what the check draws."""


class Session:
    """What all cases of one run share.

    Attributes:
        backend: Backend under test.
        profile: Amount of work.
        seed: Seed of every draw.
        shapes: Kinds, sizes and dtypes of the systems built so far: what had to be compiled.
    """

    def __init__(self, backend: Backend, profile: Profile, seed: int = 0) -> None:
        self.backend, self.profile, self.seed = backend, profile, seed
        self.shapes = set[tuple[str, int, str]]()
        self._trials = dict[tuple[System, str], Trial]()
        self._group = ""

    def enter(self, group: str) -> None:
        """Drop the compiled programs of the previous group of cases, if it is another one."""
        if self._group and group != self._group:
            drop_programs(self.backend)
        self._group = group

    def build(self, system: System, dtype: str) -> Trial:
        """Return the trial of a system on the backend, built once."""
        self.shapes.add((system.kind, system.n, dtype))
        if (system, dtype) not in self._trials:
            self._trials[system, dtype] = system.build(self.backend, dtype)
        return self._trials[system, dtype]


class Case(NamedTuple):
    """One law, to be checked in a session.

    Attributes:
        id: Name of the law, as in ``float64/exact/chain/uoro``.
        needs: What the backend must support: a dtype first, then keys of `Backend.lacks`.
        check: Function from a session to a finding.
    """

    id: str
    needs: Sequence[str]
    check: Callable[[Session], Finding]

    @property
    def group(self) -> str:
        """Name shared with the cases that use the same compiled programs."""
        dtype, kind, *rest = self.id.split("/")
        return f"{dtype}/{rest[-1] if kind in PER_ESTIMATOR else kind}"


def run_case(case: Case, session: Session) -> Finding:
    """Run one case; an exception that the check raises becomes the finding.

    Returns:
        The finding; *not checked* if the backend's ``lacks`` names something that the case needs.
    """
    session.enter(case.group)
    lacks = getattr(session.backend, "lacks", {})
    for need in case.needs:
        if need in lacks:
            return not_checked(case.id, f"The backend has no {need}: {lacks[need]}")

    def check() -> Finding:
        with session.backend.precision(case.needs[0]):
            return case.check(session)

    return guarded(check, case.id)


def guarded(check: Callable[[], Finding], law: str, system: str = "") -> Finding:
    """Run a check; an exception becomes a finding with the verdict *broken*."""
    try:
        return check()
    except Exception as error:
        message = " ".join(str(error).split())[:LONGEST_MESSAGE]
        evidence = f"The check raised {type(error).__name__}: {message}"
        return Finding(law, "broken", float("nan"), float("nan"), evidence, system)


def on_backend(
    name: str, dtype: str, check: Callable[[Backend, str], Finding], *needs: str
) -> Case:
    """Build the case of a check of the backend alone."""
    return Case(name, (dtype, *needs), lambda session: check(session.backend, dtype))


def on_systems(
    name: str, dtype: str, check: CheckOnTrial, *, gallery: Sequence[System] | None = None
) -> Case:
    """Build the case of a check that runs on fixed systems and on random ones.

    Args:
        name: Name of the law.
        dtype: Dtype of the systems.
        check: Check of one trial.
        gallery: Fixed systems; those of the profile if ``None``. With a gallery of its own, a
            law sees a quarter as many random systems, and none where each shape is compiled.
    """

    def in_session(session: Session) -> Finding:
        profile, own = session.profile, gallery is not None
        bounded = session.backend.compiled and not profile.any_size

        def on_system(system: System) -> Finding:
            trial = session.build(system, dtype)
            return guarded(partial(check, trial, session.seed), name, trial.line)

        return explore(
            on_system,
            gallery=gallery if gallery is not None else profile.gallery,
            examples=0 if own and bounded else profile.examples // (4 if own else 1),
            seed=session.seed,
            pool=profile.gallery if bounded else (),
        )

    return Case(name, (dtype,), in_session)


# From a check of an estimator, or of dynamics, to a check of a trial.


def of(estimator: Estimator, check: Any) -> CheckOnTrial:
    """Return the check of one estimator."""

    def on_trial(trial: Trial, seed: int) -> Finding:
        finding: Finding = check(trial, estimator, seed=seed)
        return finding

    return on_trial


def of_two_steps_as_one(estimator: Estimator, check: Any) -> CheckOnTrial:
    """Return the check of one estimator on a trial unrolled by 2: memory-2."""
    return lambda trial, seed: of(estimator, check)(trial.unrolled(2), seed)


def at_every_step(law: Any) -> CheckOnTrial:
    """Return the check of a law of dynamics at every step of a trial."""

    def on_trial(trial: Trial, seed: int) -> Finding:
        found = list[Finding]()
        for step, point in enumerate(trial.points):
            finding: Finding = law(*point, seed=seed + step)
            evidence = f"At step {step} of {len(trial.points)}: {finding.evidence}"
            found.append(finding._replace(system=trial.line, evidence=evidence))
        return worst(found)

    return on_trial


def at_first_step(law: Any) -> CheckOnTrial:
    """Return the check of a law of dynamics where a trial starts."""

    def on_trial(trial: Trial, seed: int) -> Finding:
        finding: Finding = law(*trial.first, seed=seed)
        return finding._replace(system=trial.line)

    return on_trial


def sweep_several(trial: Trial, seed: int) -> Finding:
    """Check sweeps of two pairs, of all steps as one, of two steps as one, and of five pairs."""
    of_two_pairs, of_five = (partial(check_sweep, count=count) for count in (2, 5))
    whole, unrolled = trial.unrolled(len(trial.items)), trial.unrolled(2)
    ways = ((of_two_pairs, trial), (check_sweep, whole), (of_five, unrolled))
    return worst([at_first_step(law)(each, seed) for law, each in ways])


def many_streams(trial: Trial, seed: int) -> Finding:
    """Check dynamics of three streams, and of sixteen."""
    counts = (STREAMS, 16)
    return worst([at_first_step(partial(check_many, count=n))(trial, seed) for n in counts])
