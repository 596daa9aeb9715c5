"""A recommended estimator for a model and a stream, by measurements of a short run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

from uoro.algebra import entry, size
from uoro.arguments import (
    mismatch,
    require_arrays,
    require_callable,
    require_count,
    require_dynamics,
    require_flag,
    require_number,
    require_optimizer,
    require_seed,
    require_stream,
)
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import StreamError, spelled
from uoro.estimator import Estimator
from uoro.estimators.recommending import facts_of, recommended
from uoro.estimators.spelling import parse_estimator
from uoro.learning import Adam
from uoro.learning.ahead import Ahead
from uoro.learning.learner import Learner
from uoro.learning.stream import read
from uoro.optimizer import Optimizer
from uoro.suggesting.candidates import chosen, fitting, ready
from uoro.suggesting.measuring import FEWEST, Measuring
from uoro.suggesting.suggestion import Suggestion
from uoro.suggesting.trial import Trial, block_of

WINDOW = 16
"""Items of the longest window among the default estimators; blocks are multiples of it."""
STEPS, EAGER_STEPS = 320, 96
LONGEST_BLOCK = 64
AT_MOST = 30_000_000
"""Numbers of the exact gradients of all items."""
LEARNING = 0.2
"""Share of the budget for learning."""
CHUNK = 256
"""Number of items learnt from at a time; of fewer where the backend does not compile."""


def suggest(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Iterable[Any],
    *,
    estimators: Sequence[str | Estimator] | None = None,
    learn: int = 0,
    optimizer: Optimizer | None = None,
    trained: bool = False,
    noise: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    replicas: int = 8,
    budget: float = 40.0,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Suggestion:
    """Suggest a gradient estimator for a model, by bias, noise, time and memory.

    Each estimator runs over the same items, at fixed params, several times with signs of its own.
    Its gradients are compared with the exact ones: those of `BlockRTRL` where units do not mix,
    else of `RTRL` where that is affordable, else with means of ``KroneckerSum(4)``. One rule, that
    of `uoro.estimators.recommending.recommended`, recommends one of them.

    Bias and noise are those at the given params. Both grow as a network learns to remember: pass a
    trained network, or let it learn for some items first (``learn``).

    Args:
        dynamics: Model.
        params: θ, of a trained model if possible.
        state: Hidden state before the first item.
        items: Stream of single items.
        estimators: Estimators to measure, by their names on the command line or as they are;
            default: all that fit.
        learn: Number of items to learn from first, with the estimator that the sizes of the model
            suggest; fewer if a fifth of the budget is over.
        optimizer: Optimizer to learn with; default ``Adam(1e-3)``.
        trained: Whether the network, after ``learn`` items, remembers as long as it is ever to;
            only then is a biased estimator recommended whose bias is small.
        noise: Largest acceptable squared error, relative to the squared gradient; default any.
        seconds: Longest acceptable time of a step, in seconds; default any.
        steps: Number of items to compare on, the first fifth of which is left out, as influences
            start at zero; default 320, or 96 where the backend does not compile; fewer if the
            stream ends, or the model is large.
        replicas: Number of runs of each estimator, 3 or more; fewer if time is short.
        budget: Seconds that the measurement may take, roughly; estimators that it leaves no time
            for are named.
        seed: Seed of the signs.
        report: Function called with what is done now, in words.

    Returns:
        Rows, a recommendation with its reason, and what was left out. ``print`` it.

    Raises:
        SettingError: If a number is out of range, or an estimator is none.
        StreamError: If the stream has no items left to compare on.

    Example:
        >>> import numpy as np
        >>> from uoro import load_backend, suggest
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> def transition(decay, state, x):  # Units that do not move each other.
        ...     after = decay * state + x
        ...     return after, xp.sum((after - 1.0) ** 2)
        >>> items = np.random.default_rng(0).normal(size=(24, 3))
        >>> found = suggest(backend.dynamics(transition), 0.5 * xp.ones(3), xp.zeros(3), items,
        ...                 estimators=["block", "tbptt:1"])
        >>> found.recommended.estimator
        BlockRTRL()
        >>> found.reason
        'Units do not move each other: this is exact, and takes about as long as UORO.'
    """
    begun = perf_counter()
    call = "suggest(…)"
    require_dynamics(call, dynamics)
    limits = [
        None if limit is None else _positive(what, limit)
        for what, limit in (("noise", noise), ("seconds", seconds))
    ]
    require_flag(f"suggest(trained={spelled(trained)})", "trained", trained)
    learn = require_count(f"suggest(learn={spelled(learn)})", "items", learn, least=0)
    if steps is not None:
        steps = require_count(f"suggest(steps={spelled(steps)})", "steps", steps, least=2)
    shown = f"suggest(replicas={spelled(replicas)})"
    replicas = require_count(shown, "number of replicas", replicas, least=FEWEST)
    budget = _positive("budget", budget)
    seed = require_seed(call, seed)
    choices = None if estimators is None else chosen(estimators)
    optimizer = require_optimizer(call, Adam(1e-3) if optimizer is None else optimizer)
    if report is not None:
        require_callable(call, "report", report, "a function of a string")
    say = report or _quiet
    backend = dynamics.backend
    for what, tree in (("params", params), ("state", state)):
        require_arrays(backend, tree, f"suggest({what}=...)")
    stream = require_stream(call, items)

    say("the model")
    ahead = None if learn == 0 else Ahead(backend, stream, call)
    wanted = steps or (STEPS if backend.compiled else EAGER_STEPS)
    most = max(3 * WINDOW, AT_MOST // size(backend, params) // WINDOW * WINDOW)
    stretch = (None, 0) if ahead else read(backend, stream, min(wanted, most))
    first = entry(backend, ahead.first if ahead else _some(stretch), 0)
    probe(dynamics, params, state, first)
    facts = facts_of(dynamics, params, state, first)
    where = "At the params as given."
    if ahead:
        by = parse_estimator(recommended(facts).spelling or "uoro").estimator
        learner, learnt = Learner(dynamics, by, optimizer, params, state, seed=seed), 0
        chunk = CHUNK if backend.compiled else WINDOW
        since = perf_counter()
        while learnt < learn and perf_counter() - since < LEARNING * budget:
            say(f"learning, {learnt:,} of {learn:,} items")
            more = learner.run(ahead, min(chunk, learn - learnt), chunk=chunk).steps
            if not learnt:
                since = perf_counter()  # The first items compile.
            learnt += more
            if not more:
                break
        params, state = learner.params, learner.state
        where = f"After learning from {learnt:,} items with {type(by).__name__}."
        stretch = read(backend, stream, min(wanted, most))
    trial = _trial(dynamics, params, state, _some(stretch), stretch[1], replicas, seed)
    measured = Measuring(trial, facts, replicas, begun, budget, say)
    left_out = dict[str, str]()
    if choices is None:
        names, left_out = fitting(facts, trial.count)
        choices = [parse_estimator(name) for name in names]
    reference = measured.reference()
    rows = measured.rows(choices, reference, left_out)
    found = recommended(facts, rows, trained=trained, noise=limits[0], seconds=limits[1])
    named = {choice.name: choice for choice in choices}
    used = trial.count - trial.skip
    return Suggestion(
        None if found.spelling is None else ready(named[found.spelling]),
        found.reason,
        tuple(sorted(rows, key=lambda row: row.seconds)),
        measured.compared_with,
        where,
        left_out,
        facts,
        used,
        f"{backend.name} on {backend.device}",
        perf_counter() - begun,
    )


def _quiet(doing: str) -> None:
    """Report nothing."""


def _positive(what: str, value: Any) -> float:
    call = f"suggest({what}={spelled(value)})"
    return require_number(call, what, value, "a positive, finite number", lambda x: x > 0)


def _some(stretch: tuple[Any, int]) -> Any:
    """Return the items of a stretch, at least two.

    Raises:
        StreamError: If there are fewer.
    """
    items, count = stretch
    if count < 2:
        hint = "Pass more items, or a smaller learn."
        raise StreamError(mismatch("suggest(…)", "items", "at least 2", str(count), hint))
    return items


def _trial(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Any,
    count: int,
    replicas: int,
    seed: int,
) -> Trial:
    """Build the trial: which of the items count, and how many run at a time."""
    backend = dynamics.backend
    skip, multiple = count // 5, 1
    if count >= 3 * WINDOW:
        multiple = WINDOW
        count -= count % WINDOW
        skip = max(WINDOW, count // 5 // WINDOW * WINDOW)
    longest = LONGEST_BLOCK if backend.compiled else 2 * WINDOW
    block = block_of(count, (replicas + 3) * size(backend, params), multiple, longest)
    return Trial(dynamics, params, state, items, count, skip, block, seed)
