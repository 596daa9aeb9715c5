"""Checks that choose their own systems, or lengths of runs, from a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from uoro.algebra import size
from uoro.estimator import Estimator
from uoro.estimators import UORO, JointUORO, KroneckerSum, Truncated
from uoro.estimators.streams import Streams
from uoro_conformance.beside import check_mean_beside
from uoro_conformance.cases import Session
from uoro_conformance.declared import check_declaration
from uoro_conformance.designs import draws_of
from uoro_conformance.enumeration import check_mean_over_all_signs
from uoro_conformance.exact import check_chain, check_gradient_path, check_outcome
from uoro_conformance.finding import Finding, worst
from uoro_conformance.free_runs import check_by_sampling
from uoro_conformance.kronecker import check_mean_of_terms
from uoro_conformance.laws import check_rtrl_sums_to_bptt
from uoro_conformance.least import MOST_COORDINATES, check_added_variance
from uoro_conformance.signs import check_signs, drawn_signs
from uoro_conformance.systems import System, Trial, influence_balancing
from uoro_conformance.wide_draws import check_wide_draws

WIDE_STEPS = 160
"""Length of the runs whose signs of six leaves are tested: lags of 64 steps are seen well. Four
times as long under ``thorough``."""

LONG = System("tanh", 3, 40, 12)
"""System of as many steps as an estimator is followed; of a shape that is compiled anyway."""

FEW_SIGNS = 10
"""Number of signs that are enumerated: all steps of a system for one pair, two for joint pairs."""


def all_sign_sequences(estimator: UORO | JointUORO, dtype: str) -> Callable[[Session], Finding]:
    """Return the check of the mean over all sign sequences, on the profile's systems for it."""

    def in_session(session: Session) -> Finding:
        found = []
        for system in session.profile.enumerated:
            trial = session.build(system, dtype)
            steps = min(len(trial.items), FEW_SIGNS // (draws_of(estimator) * system.n))
            start = trial.params[:steps], trial.state, trial.items[:steps]
            finding = check_mean_over_all_signs(trial.dynamics, *start, estimator=estimator)
            found.append(finding._replace(system=trial.line))
        return worst(found)

    return in_session


def declared_on(
    estimator: Estimator, dtype: str, systems: Sequence[System]
) -> Callable[[Session], Finding]:
    """Return the check of what an estimator declares, on systems that it accepts alone."""

    def in_session(session: Session) -> Finding:
        trials = [session.build(system, dtype) for system in systems]
        found = [check_declaration(trial, estimator, seed=session.seed) for trial in trials]
        return worst(found)

    return in_session


def all_signs_beside(estimator: UORO, dtype: str) -> Callable[[Session], Finding]:
    """Return the check of the mean over all signs beside a baseline, on a small gated system."""

    def in_session(session: Session) -> Finding:
        trial = session.build(System("gru", 2, 4), dtype)
        start = trial.params, trial.state, trial.items
        finding = check_mean_beside(trial.dynamics, *start, estimator, seed=session.seed)
        return finding._replace(system=trial.line)

    return in_session


def all_signs_of_terms(
    estimator: KroneckerSum, dtype: str, systems: Sequence[System]
) -> Callable[[Session], Finding]:
    """Return the check of the mean of Kronecker sums over all signs, on small systems.

    The first r steps have at most r terms, and depend on no signs. The signs of further steps are
    enumerated, as far as there are few of them.
    """

    def in_session(session: Session) -> Finding:
        found, rank = list[Finding](), estimator.rank
        for system in systems:
            trial = session.build(system, dtype)
            steps = min(len(trial.items), rank + FEW_SIGNS // (rank + 1))
            start = trial.params[:steps], trial.state, trial.items[:steps]
            fixed = min(rank, steps - 1)
            finding = check_mean_of_terms(trial.dynamics, *start, estimator=estimator, fixed=fixed)
            found.append(finding._replace(system=trial.line))
        return worst(found)

    return in_session


def added_variance(
    joint: JointUORO, dtype: str, systems: Sequence[System]
) -> Callable[[Session], Finding]:
    """Return the check of the variance that joint pairs add, on the systems small enough."""

    def in_session(session: Session) -> Finding:
        trials = [session.build(system, dtype) for system in systems]
        backend = session.backend
        small = [trial for trial in trials if size(backend, trial.state) <= MOST_COORDINATES]
        return worst([check_added_variance(trial, joint, seed=session.seed) for trial in small])

    return in_session


def self_test(check: Callable[[Trial], Finding], dtype: str) -> Callable[[Session], Finding]:
    """Return a check of the suite itself, on one system."""
    return lambda session: check(session.build(session.profile.few[0], dtype))


def rtrl_sums_to_bptt(trial: Trial, seed: int) -> Finding:
    """Check that RTRL's gradients sum to the gradient of full BPTT along a trial."""
    finding = check_rtrl_sums_to_bptt(trial.dynamics, trial.params[0], trial.state, trial.items)
    return finding._replace(system=trial.line)


def truncation(dtype: str, session: Session) -> Finding:
    """Check that truncated BPTT declares itself biased, and that the wrong sign is found."""
    trial = influence_balancing(session.backend, dtype=dtype).unrolled(10)
    finding = check_declaration(trial, Truncated())
    if finding.holds and "the wrong sign" not in finding.evidence:
        evidence = f"On this task the gradient's sign must be wrong. {finding.evidence}"
        return finding._replace(verdict="broken", evidence=evidence)
    return finding


def drawn_signs_are_fair(dtype: str, session: Session) -> Finding:
    """Test the signs of free runs of two streams with two pairs each."""
    trial, backend = session.build(session.profile.few[0], dtype), session.backend
    both = Trial(
        trial.dynamics,
        trial.params,
        backend.collect([trial.state] * 2),
        [backend.collect([item] * 2) for item in trial.items],
        trial.line,
    )
    estimator, steps = Streams(UORO(rank=2), 2), session.profile.steps
    return check_signs(drawn_signs(both, estimator, steps=steps, seed=session.seed))


def long_run(estimator: Estimator, dtype: str) -> Callable[[Session], Finding]:
    """Return the check of the steps of an estimator far beyond the first ones, on one system."""

    def in_session(session: Session) -> Finding:
        return check_horizon(session.build(LONG, dtype), estimator, seed=session.seed)

    return in_session


def check_horizon(trial: Trial, estimator: Estimator, *, seed: int = 0) -> Finding:
    """Check each step's mean, its gradient and its outcome along a long trial."""
    checks = (check_chain, check_gradient_path, check_outcome)
    found = worst([check(trial, estimator, seed=seed) for check in checks])
    evidence = f"{found.law}; {len(trial.items)} steps were looked at, and no later one."
    return found._replace(
        law="an estimator is at each step what it is at the first",
        evidence=f"{evidence} {found.evidence}",
    )


def draws_of_six_leaves(dtype: str, session: Session) -> Finding:
    """Test the signs that a learner draws for sixteen streams of six leaves."""
    longest = 4 * WIDE_STEPS if session.profile.any_size else WIDE_STEPS
    steps = min(longest, session.profile.steps)
    return check_wide_draws(session.backend, dtype, steps=steps, seed=session.seed)


def mean_of_free_runs(dtype: str, session: Session) -> Finding:
    """Test the mean of free runs of UORO against exact RTRL."""
    profile = session.profile
    return check_by_sampling(
        session.build(profile.few[0], dtype),
        UORO(),
        delta=profile.delta,
        batch=profile.batch,
        seed=session.seed,
    )
