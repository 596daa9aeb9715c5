"""A pool of processes, one job per core, that stops when asked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from queue import Empty
from typing import Any, TypeAlias

from uoro.errors import ReproductionError
from uoro.files.results import made_with
from uoro.lab.jobs.job import Done, Job, JobSettings, Report

Kind: TypeAlias = Callable[[JobSettings, Report], dict[str, Any]]

PERIOD = 0.3


class StoppedError(Exception):
    """A job was asked to stop before it was done."""


# State of a worker process, set when it starts.
_messages: Any = None
_stop: Any = None


def cores() -> list[int]:
    """List the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def execute(
    jobs: Sequence[tuple[Any, Job]],
    workers: int,
    *,
    progress: Callable[[Any, float], None],
    asked_to_stop: Callable[[], bool],
    kinds: Mapping[str, Kind],
    threads: int = 1,
) -> Iterator[tuple[Any, Done | Exception]]:
    """Run all jobs, the longest first.

    Args:
        jobs: Jobs, each under a key of the caller's.
        workers: Number of jobs at a time; each has a core to itself while there are as many.
        progress: Called with a key and the fraction of the job that is done.
        asked_to_stop: Asked again and again; once true, no further job is finished.
        kinds: Function of each kind of job; another process must be able to import it.
        threads: Number of threads, and of cores, of each job.

    Yields:
        Each key when its job ends, with the result or the exception that the job raised.

    Raises:
        ReproductionError: If a process was killed from outside.
        KeyboardInterrupt: If asked to stop; all finished jobs have been yielded before.
    """
    context = multiprocessing.get_context("spawn")
    messages, stop, places = context.Queue(), context.Event(), context.Queue()
    allowed = cores()
    for number in range(workers):
        own = allowed[number * threads : (number + 1) * threads]
        places.put(own if workers * threads <= len(allowed) else None)
    ordered = sorted(jobs, key=lambda item: -item[1].cost)
    with (
        _threads_each(threads),
        ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(messages, stop, places)
        ) as pool,
    ):
        with _interrupts_ignored():
            waiting: dict[Future[Done], Any] = {
                pool.submit(_work, key, job, kinds[job.kind]): key for key, job in ordered
            }
        try:
            while waiting:
                ready, _ = wait(waiting, timeout=PERIOD, return_when=FIRST_COMPLETED)
                _drain(messages, progress)
                for future in ready:
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool) or not isinstance(
                        error, Exception | None
                    ):
                        raise error
                    yield waiting.pop(future), error or future.result()
                if asked_to_stop():
                    raise KeyboardInterrupt
        except BrokenProcessPool as error:
            raise ReproductionError(
                "jobs: expected every process to live to its end, got one that was killed, perhaps "
                "for lack of memory. Finished jobs are kept; repeat the command, with fewer --jobs."
            ) from error
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _drain(messages: Any, progress: Callable[[Any, float], None]) -> None:
    while True:
        try:
            progress(*messages.get_nowait())
        except Empty:
            return


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start processes that ignore Ctrl-C: the process that started them handles the signal."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _threads_each(threads: int) -> Iterator[None]:
    """Limit the threads that processes started from here use for linear algebra."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(messages: Any, stop: Any, places: Any) -> None:
    """Prepare a worker: pin it to its cores before a framework starts threads."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _messages, _stop
    _messages, _stop = messages, stop
    place = places.get()
    if place is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however the parent ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(key: Any, job: Job, function: Kind) -> Done:
    last = 0.0

    def report(fraction: float) -> None:
        nonlocal last
        if _stop.is_set():
            raise StoppedError
        if time.monotonic() > last + PERIOD:
            last = time.monotonic()
            _messages.put((key, fraction))

    start = time.perf_counter()
    report(0.0)
    result = function(job.settings, report)
    seconds = time.perf_counter() - start
    return Done(job.settings, result, seconds, made_with(job.settings["backend"]))
