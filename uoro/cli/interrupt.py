"""Ctrl-C and SIGTERM as a question, asked between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer the first Ctrl-C: the function returned tells whether it came; the second is raised."""
    with deferred_signals(signal.SIGINT) as caught:
        yield lambda: caught() is not None


@contextmanager
def deferred_signals(*signals: signal.Signals) -> Iterator[Callable[[], signal.Signals | None]]:
    """Defer the first of some signals: the function returned tells which came; the next is raised.

    A framework's callback would swallow an exception from the signal handler.
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
