"""Ctrl-C, and being told to end, as a question."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that is asked between steps; a second one is raised."""
    with deferred_signals(signal.SIGINT) as caught:
        yield lambda: caught() is not None


@contextmanager
def deferred_signals(*signals: signal.Signals) -> Iterator[Callable[[], signal.Signals | None]]:
    """Note the first of some signals, to be asked for between steps; the next one is raised.

    An exception from the signal handler could surface inside a callback of a framework, which
    would swallow it.
    """
    first: signal.Signals | None = None

    def note(number: int, frame: object) -> None:
        nonlocal first
        if first is not None:
            raise KeyboardInterrupt
        first = signal.Signals(number)

    with ExitStack() as stack:
        for one in signals:
            stack.callback(signal.signal, one, signal.signal(one, note))
        yield lambda: first
