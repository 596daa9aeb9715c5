"""The suite: every law by name, to be run on any backend."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uoro.algebra import size
from uoro.backend import Backend
from uoro.estimators import UORO, JointUORO, RollingTruncated, Truncated
from uoro.estimators.streams import Streams
from uoro.models import InfluenceBalancing
from uoro_conformance.declared import check_declaration
from uoro_conformance.designs import draws_of
from uoro_conformance.enumeration import check_mean_over_all_signs
from uoro_conformance.exact import (
    check_chain,
    check_determinism,
    check_gradient_path,
    check_outcome,
    check_sign_equivariance,
)
from uoro_conformance.explore import explore
from uoro_conformance.finding import Finding, not_checked, worst
from uoro_conformance.free_runs import check_by_sampling
from uoro_conformance.laws import (
    check_adjointness,
    check_linearity,
    check_outcomes_agree,
    check_purity,
    check_rtrl_sums_to_bptt,
)
from uoro_conformance.least import MOST_COORDINATES, check_added_variance
from uoro_conformance.odd_states import check_complex, check_integers
from uoro_conformance.parity import check_parity
from uoro_conformance.primitives import PRIMITIVES, check_gaussian
from uoro_conformance.profiles import Profile
from uoro_conformance.self_test import check_right_are_not_biased, check_wrong_are_refused
from uoro_conformance.signs import check_signs, drawn_signs
from uoro_conformance.streams import check_streams
from uoro_conformance.sweeps import check_sweep
from uoro_conformance.systems import System, Trial
from uoro_conformance.truth import check_truth

DTYPES = ("float64", "float32")
"""The first tier, and the second: float32 is never inferred from float64."""

JOINT = (JointUORO(1), JointUORO(2))
"""Pairs that are reduced together: of fewer than all state coordinates, and of about as many."""

SCALED = JointUORO(2, scaling="rows")
"""Pairs whose projections are scaled by how far the params move each coordinate."""

FEW_SIGNS = 10
"""How many signs are enumerated: all the steps of a system for one pair, two for joint ones."""

DERIVATIVE_LAWS: dict[str, Any] = {
    "adjoint": check_adjointness,
    "linear": check_linearity,
    "true": check_truth,
    "agree": check_outcomes_agree,
    "sweep": check_sweep,
    "pure": check_purity,
}
"""The laws of `Dynamics`, by name."""

TrialCheck = Callable[[Trial, int], Finding]
"""From a trial and the seed of whatever the check draws."""


class Bench:
    """What a run of the suite works with.

    Attributes:
        backend: What is checked.
        profile: How much of it.
        seed: Determines everything that is drawn.
        shapes: The kinds, sizes and dtypes of systems met so far: what had to be compiled.
    """

    def __init__(self, backend: Backend, profile: Profile, seed: int = 0) -> None:
        self.backend, self.profile, self.seed = backend, profile, seed
        self.shapes = set[tuple[str, int, str]]()
        self._trials = dict[tuple[System, str], Trial]()

    def build(self, system: System, dtype: str) -> Trial:
        """Put a system on the backend."""
        self.shapes.add((system.kind, system.n, dtype))
        if (system, dtype) not in self._trials:
            self._trials[system, dtype] = system.build(self.backend, dtype)
        return self._trials[system, dtype]


class Case(NamedTuple):
    """One law, to be run on a bench.

    Attributes:
        id: Its name, as in ``float64/exact/chain/uoro``.
        needs: What the backend must be able to do: a dtype, and perhaps more of `Backend.lacks`.
        check: From a bench to a finding.
    """

    id: str
    needs: Sequence[str]
    check: Callable[[Bench], Finding]


def run_case(case: Case, bench: Bench) -> Finding:
    """Run one case; what the check raises becomes its finding.

    Returns:
        *not checked* if the backend declares, in ``lacks``, that it cannot do what is needed.
    """
    lacks = getattr(bench.backend, "lacks", {})
    for need in case.needs:
        if need in lacks:
            return not_checked(case.id, f"The backend has no {need}: {lacks[need]}")

    def check() -> Finding:
        with bench.backend.precision(case.needs[0]):
            return case.check(bench)

    return guarded(check, case.id)


def guarded(check: Callable[[], Finding], law: str, system: str = "") -> Finding:
    """Run a check; an exception in it is a finding too."""
    try:
        return check()
    except Exception as error:
        said = " ".join(str(error).split())
        return Finding(
            law,
            "broken",
            float("nan"),
            float("nan"),
            f"It raised {type(error).__name__}: {said[:500]}",
            system,
        )


def cases(profile: Profile, lacks: Container[str] = ()) -> list[Case]:
    """List all cases of a profile, in the order in which one would want to read them.

    Args:
        profile: How much to check.
        lacks: What the backend cannot do. What is checked in one dtype alone is checked in the
            first that it has.
    """
    found = list[Case]()
    for dtype in DTYPES:
        found += _backend_cases(dtype)
        found += _derivative_cases(dtype, profile)
        found += _exact_cases(dtype, profile)
    first = next((dtype for dtype in DTYPES if dtype not in lacks), DTYPES[0])
    return found + list(_first_tier_cases(profile, first))


def _backend_cases(dtype: str) -> Iterator[Case]:
    for name, check in PRIMITIVES:
        yield Case(
            f"{dtype}/backend/{name}",
            (dtype,),
            lambda bench, check=check, dtype=dtype: check(bench.backend, dtype),  # type: ignore[misc]  # bound early
        )
    for name, check in (("integers", check_integers), ("complex", check_complex)):
        yield Case(
            f"{dtype}/backend/{name}",
            (dtype, name),
            lambda bench, check=check, dtype=dtype: check(bench.backend, dtype),  # type: ignore[misc]  # bound early
        )


def _derivative_cases(dtype: str, profile: Profile) -> Iterator[Case]:
    for name, law in DERIVATIVE_LAWS.items():
        yield _on_systems(f"{dtype}/derivatives/{name}", dtype, partial(_at_first, law))
    sweeps = f"{dtype}/derivatives/sweeps"
    yield _on_systems(sweeps, dtype, _several_at_once, gallery=profile.few[:2])


def _exact_cases(dtype: str, profile: Profile) -> Iterator[Case]:
    checks: dict[str, Any] = {
        "outcome": check_outcome,
        "chain": check_chain,
        "gradient": check_gradient_path,
    }
    determinism = partial(_with, check_determinism, UORO())
    yield _on_systems(f"{dtype}/exact/determinism/uoro", dtype, determinism)
    few, pairs = profile.few, (UORO(rank=2), *JOINT, SCALED)
    runs: list[tuple[str, Any, UORO | JointUORO, Sequence[System] | None]] = [
        ("uoro", _with, UORO(), None),
        *((_named(estimator), _with, estimator, few) for estimator in pairs),
        ("uoro:memory=2", _unrolled, UORO(), few[:2]),
    ]
    # All checks of one estimator follow each other: they look at the same measurements.
    for name, run, estimator, gallery in runs:
        for law, check in checks.items():
            on_trial = partial(run, check, estimator)
            yield _on_systems(f"{dtype}/exact/{law}/{name}", dtype, on_trial, gallery=gallery)


def _first_tier_cases(profile: Profile, dtype: str) -> Iterator[Case]:
    few = profile.few
    yield Case(f"{dtype}/exact/enumeration/uoro", (dtype,), partial(_enumerate, UORO(), dtype))
    joint = JOINT[0]
    name = f"{dtype}/exact/enumeration/{_named(joint)}"
    yield Case(name, (dtype,), partial(_enumerate, joint, dtype))
    for name, check in (
        ("exact/equivariance/uoro", partial(_with, check_sign_equivariance, UORO())),
        ("parity/uoro", partial(_with, check_parity, UORO())),
    ):
        yield _on_systems(f"{dtype}/{name}", dtype, check)
    rank = partial(_with, check_parity, UORO(rank=2))
    yield _on_systems(f"{dtype}/parity/uoro:rank=2", dtype, rank, gallery=few)
    for joint, systems in ((JOINT[0], few[:1]), (JOINT[1], few), (SCALED, few[:1])):
        check = partial(_with, check_parity, joint)
        yield _on_systems(f"{dtype}/parity/{_named(joint)}", dtype, check, gallery=systems)
        name = f"{dtype}/exact/variance/{_named(joint)}"
        yield Case(name, (dtype,), partial(_variance, joint, dtype, systems))
    for streams in (Streams(UORO(), 3), Streams(UORO(rank=2), 2)):
        name = f"{dtype}/streams/uoro{':rank=2' if streams.count == 2 else ''}"
        check = partial(_with, check_streams, streams)
        yield _on_systems(name, dtype, check, gallery=few[:1] if streams.count == 2 else few)
    check = partial(_with, check_streams, Streams(JOINT[1], 2))
    yield _on_systems(f"{dtype}/streams/{_named(JOINT[1])}", dtype, check, gallery=few[:1])
    yield _on_systems(f"{dtype}/declared/rtrl", dtype, _rtrl_sums_to_bptt)
    rolling = partial(_with, check_declaration, RollingTruncated(2))
    yield _on_systems(f"{dtype}/declared/rolling:2", dtype, rolling, gallery=few)
    yield Case(
        f"{dtype}/declared/tbptt:10",
        (dtype,),
        partial(_truncated, dtype),
    )
    yield Case(f"{dtype}/sampling/signs", (dtype,), partial(_signs, dtype))
    yield Case(
        f"{dtype}/sampling/gaussian",
        (dtype, "gaussian", "spherical"),
        lambda bench: check_gaussian(bench.backend, dtype, seed=bench.seed),
    )
    yield Case(f"{dtype}/sampling/mean", (dtype,), partial(_sample, dtype))
    if profile.self_test:
        for name, law in (
            ("wrong", check_wrong_are_refused),
            ("right", check_right_are_not_biased),
        ):
            yield Case(
                f"{dtype}/self-test/{name}",
                (dtype,),
                lambda bench, law=law: law(bench.build(bench.profile.few[0], dtype)),  # type: ignore[misc]  # bound early
            )


def _on_systems(
    name: str, dtype: str, check: TrialCheck, *, gallery: Sequence[System] | None = None
) -> Case:
    """Make a case of a check on a trial: on a gallery, and on random systems."""

    def on_bench(bench: Bench) -> Finding:
        profile, fixed = bench.profile, gallery is not None
        bounded = bench.backend.compiled and not profile.any_size

        def on_system(system: System) -> Finding:
            trial = bench.build(system, dtype)
            return guarded(partial(check, trial, bench.seed), name, trial.line)

        return explore(
            on_system,
            gallery=gallery if gallery is not None else profile.gallery,
            examples=0 if fixed and bounded else profile.examples // (4 if fixed else 1),
            seed=bench.seed,
            pool=profile.gallery if bounded else (),
        )

    return Case(name, (dtype,), on_bench)


def _with(check: Any, estimator: Any, trial: Trial, seed: int) -> Finding:
    finding: Finding = check(trial, estimator, seed=seed)
    return finding


def _unrolled(check: Any, estimator: Any, trial: Trial, seed: int) -> Finding:
    return _with(check, estimator, trial.unrolled(2), seed)


def _at_first(law: Any, trial: Trial, seed: int) -> Finding:
    """Check a law of the dynamics where the trial starts."""
    finding: Finding = law(*trial.first, seed=seed)
    return finding._replace(system=trial.line)


def _several_at_once(trial: Trial, seed: int) -> Finding:
    """Check sweeps of two pairs, of two steps as one, and of both."""
    stack = partial(check_sweep, count=2)
    unrolled = trial.unrolled(2)
    ways = ((stack, trial), (check_sweep, unrolled), (stack, unrolled))
    return worst([_at_first(law, each, seed) for law, each in ways])


def _rtrl_sums_to_bptt(trial: Trial, seed: int) -> Finding:
    finding = check_rtrl_sums_to_bptt(trial.dynamics, trial.params[0], trial.state, trial.items)
    return finding._replace(system=trial.line)


def _named(pairs: UORO | JointUORO) -> str:
    scaling = f",scaling={pairs.scaling}" if pairs.scaling else ""
    if isinstance(pairs, JointUORO):
        return f"joint:{pairs.rank}{scaling}"
    return f"uoro:rank={pairs.rank}{scaling}"


def _enumerate(estimator: UORO | JointUORO, dtype: str, bench: Bench) -> Finding:
    found = []
    for system in bench.profile.enumerated:
        trial = bench.build(system, dtype)
        steps = min(len(trial.items), FEW_SIGNS // (draws_of(estimator) * system.n))
        system_at = trial.params[:steps], trial.state, trial.items[:steps]
        finding = check_mean_over_all_signs(trial.dynamics, *system_at, estimator=estimator)
        found.append(finding._replace(system=trial.line))
    return worst(found)


def _variance(joint: JointUORO, dtype: str, systems: Sequence[System], bench: Bench) -> Finding:
    """Check the variance added on the systems that are small enough."""
    trials = [bench.build(system, dtype) for system in systems]
    small = [trial for trial in trials if size(bench.backend, trial.state) <= MOST_COORDINATES]
    return worst([check_added_variance(trial, joint, seed=bench.seed) for trial in small])


def _truncated(dtype: str, bench: Bench) -> Finding:
    """Check that truncation declares itself biased, and that its bias is found: the wrong sign."""
    trial = influence_balancing(bench.backend, dtype=dtype).unrolled(10)
    finding = check_declaration(trial, Truncated())
    if finding.holds and "the wrong sign" not in finding.evidence:
        evidence = f"On this task its sign must be wrong. {finding.evidence}"
        return finding._replace(verdict="broken", evidence=evidence)
    return finding


def _signs(dtype: str, bench: Bench) -> Finding:
    """Test the signs of free runs of two streams with two pairs each."""
    trial, backend = bench.build(bench.profile.few[0], dtype), bench.backend
    both = Trial(
        trial.dynamics,
        trial.params,
        backend.collect([trial.state] * 2),
        [backend.collect([item] * 2) for item in trial.items],
        trial.line,
    )
    estimator = Streams(UORO(rank=2), 2)
    return check_signs(drawn_signs(both, estimator, steps=bench.profile.steps, seed=bench.seed))


def _sample(dtype: str, bench: Bench) -> Finding:
    profile = bench.profile
    return check_by_sampling(
        bench.build(profile.few[0], dtype),
        UORO(),
        delta=profile.delta,
        batch=profile.batch,
        seed=bench.seed,
    )


def influence_balancing(backend: Backend, *, steps: int = 100, dtype: str = "float64") -> Trial:
    """Make the trial on which truncation has the wrong sign: the paper's figure 2a, params held.

    23 units, 13 of them with a minus, so that what θ does late outweighs, with the other sign,
    what it does soon.
    """
    model = InfluenceBalancing(23, 13)
    dynamics = backend.dynamics(partial(model.transition, backend.xp), check=False)
    numbers = {"theta": np.array(0.01)}, np.zeros(23), np.zeros(())
    params, state, item = (backend.from_host(tree, dtype=dtype) for tree in numbers)
    return Trial(
        dynamics,
        [params] * steps,
        state,
        [item] * steps,
        f"influence balancing, 23 units, {steps} steps, {dtype} on {backend.name}",
    )
