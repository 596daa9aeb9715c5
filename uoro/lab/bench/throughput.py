"""Throughput of the machine: bytes and operations per second, for arrays of a given size."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from uoro.backend import Backend

SECONDS = 0.005
"""Duration of one measurement, in seconds."""

TRIES = 3
"""Measurements in succession; the fastest counts."""

ROUNDS = 4
"""Passes over all sizes, so that a slow moment of the machine does not hit a single size."""

PRODUCT = 384
"""Rows of the matrices whose product gives the operations per second; they fit the cache."""


class Throughput(NamedTuple):
    """Bytes per second, in arrays of one size.

    Attributes:
        read: Bytes read, by an inner product of an array with itself.
        update: Bytes read plus bytes written, by scaling an array in place.
    """

    read: float
    update: float


def faster(one: Throughput, other: Throughput) -> Throughput:
    """Return the larger of each."""
    return Throughput(max(one.read, other.read), max(one.update, other.update))


class Machine:
    """Measures the throughput of a device.

    On a CPU, NumPy does the work for every backend, with the array shared among threads; on another
    device, the backend's own arrays do.

    Args:
        backend: Backend on the device.
        dtype: Dtype of the numbers.
        threads: Number of threads.
    """

    def __init__(self, backend: Backend, dtype: str, threads: int) -> None:
        self._backend = backend
        self._dtype = dtype
        self._host = "cpu" in backend.device.lower()
        wait = lambda result: backend.to_host(result.reshape(-1)[:1])  # noqa: E731
        self._clock = _Clock(threads) if self._host else _Clock(1, wait)

    def throughput(self, sizes: Iterable[int]) -> dict[int, Throughput]:
        """Return the highest throughput for each number of elements.

        The throughput of a larger array counts for a smaller one too.
        """
        ordered = sorted(set(sizes), reverse=True)
        best = dict.fromkeys(ordered, Throughput(0.0, 0.0))
        for _ in range(ROUNDS):
            for touched in ordered:
                best[touched] = faster(best[touched], self._once(touched))
        for larger, smaller in itertools.pairwise(ordered):
            best[smaller] = faster(best[smaller], best[larger])
        return best

    def _once(self, touched: int) -> Throughput:
        """Measure arrays of as many elements as a step touches."""
        moved = touched * np.dtype(self._dtype).itemsize
        threads, dtype = self._clock.threads, self._dtype
        if self._host:
            read, update = _moving(touched, dtype, threads)
        else:
            read, update = _moving_on_device(self._backend, touched, dtype)
        return Throughput(
            moved / self._clock.seconds(*read), 2 * moved / self._clock.seconds(*update)
        )

    def operations(self) -> float:
        """Return the operations per second of a matrix product in each thread."""
        threads, dtype = self._clock.threads, self._dtype
        one = [_product(self._backend, rows, dtype, self._host) for rows in (PRODUCT, 1)]
        whole, nothing = ([each] * threads for each in one)
        fastest = min(self._clock.seconds(whole, nothing) for _ in range(ROUNDS))
        return 2 * PRODUCT**3 * threads / fastest


Calls = tuple[list[Callable[[], Any]], list[Callable[[], Any]]]
"""One call for each thread, and the same on a single number, which takes the time of the call."""


def _moving(touched: int, dtype: str, threads: int) -> tuple[Calls, Calls]:
    def arrays(count: int) -> list[Any]:
        return [np.ones(max(1, count), dtype) for _ in range(threads)]

    def read(array: Any) -> Callable[[], Any]:
        return lambda: np.dot(array, array)

    def update(array: Any) -> Callable[[], Any]:
        one = array.dtype.type(1.0)  # Any other factor would make the numbers denormal.
        return lambda: np.multiply(array, one, out=array)

    shares, ones = arrays(math.ceil(touched / threads)), arrays(1)
    return (
        ([read(share) for share in shares], [read(one) for one in ones]),
        ([update(share) for share in shares], [update(one) for one in ones]),
    )


def _moving_on_device(backend: Backend, touched: int, dtype: str) -> tuple[Calls, Calls]:
    dot = backend.xp.dot
    full, one = (backend.from_host(np.ones(count, dtype)) for count in (max(1, touched), 1))
    return (
        ([lambda: dot(full, full)], [lambda: dot(one, one)]),
        ([lambda: full * 1.0], [lambda: one * 1.0]),
    )


def _product(backend: Backend, rows: int, dtype: str, host: bool) -> Callable[[], Any]:
    matrix: Any = np.ones((rows, rows), dtype)
    if not host:
        matrix = backend.from_host(matrix)
    return lambda: matrix @ matrix


class _Clock:
    """Measures the time of repeated calls, each in a thread of its own."""

    def __init__(self, threads: int, wait: Callable[[Any], Any] = lambda result: None) -> None:
        self.threads = threads
        self._wait = wait

    def seconds(self, functions: list[Callable[[], Any]], empty: list[Callable[[], Any]]) -> float:
        """Return the seconds of one call of all functions at once, less the cost of calling."""
        with ThreadPoolExecutor(self.threads) as pool:
            whole, nothing = (self._fastest(pool, each) for each in (functions, empty))
        return max(whole - nothing, 0.05 * whole)

    def _fastest(self, pool: ThreadPoolExecutor, functions: list[Callable[[], Any]]) -> float:
        count = 1
        while (spent := self._spent(pool, functions, count)) < SECONDS:
            count = max(2 * count, int(1.2 * count * SECONDS / max(spent, 1e-9)))
        return min(self._spent(pool, functions, count) for _ in range(TRIES)) / count

    def _spent(
        self, pool: ThreadPoolExecutor, functions: list[Callable[[], Any]], count: int
    ) -> float:
        def repeat(function: Callable[[], Any]) -> None:
            result = None
            for _ in range(count):
                result = function()
            self._wait(result)

        start = time.perf_counter()
        if len(functions) == 1:
            repeat(functions[0])
        else:
            list(pool.map(repeat, functions))
        return time.perf_counter() - start
