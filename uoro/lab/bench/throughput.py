"""What the machine can do: bytes moved and operations done a second, in arrays of a given size."""

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
"""How long one measurement lasts."""

TRIES = 3
"""Measurements in a row; the fastest counts."""

ROUNDS = 4
"""How often all sizes are gone through, so that a slow moment of the machine is not one size's."""

PRODUCT = 384
"""Rows of the matrices whose product gives the rate of operations; they fit a core's cache."""


class Throughput(NamedTuple):
    """What a second gives, in arrays of one size.

    Attributes:
        read: Bytes read, by an inner product of an array with itself.
        update: Bytes read and written, both counted, by scaling an array in place.
    """

    read: float
    update: float


def faster(one: Throughput, other: Throughput) -> Throughput:
    """Take the faster of each."""
    return Throughput(max(one.read, other.read), max(one.update, other.update))


class Machine:
    """Take the rates of a device.

    On a CPU NumPy does the work whatever the backend, in as many threads as wanted, each with a
    share of the array; on another device the backend's own arrays do.

    Args:
        backend: Whose device it is.
        dtype: Of the numbers.
        threads: How many threads.
    """

    def __init__(self, backend: Backend, dtype: str, threads: int) -> None:
        self._backend = backend
        self._dtype = dtype
        self._host = "cpu" in backend.device.lower()
        wait = lambda result: backend.to_host(result.reshape(-1)[:1])  # noqa: E731
        self._calls = _Calls(threads) if self._host else _Calls(1, wait)

    def rates(self, sizes: Iterable[int]) -> dict[int, Throughput]:
        """Measure each of some sizes, and keep the fastest.

        What a larger array can do counts for a smaller one too.
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
        """Move numbers in arrays that hold as many as a step touches."""
        moved = touched * np.dtype(self._dtype).itemsize
        threads, dtype = self._calls.threads, self._dtype
        if self._host:
            read, update = _moving(touched, dtype, threads)
        else:
            read, update = _moving_on_device(self._backend, touched, dtype)
        return Throughput(
            moved / self._calls.seconds(*read), 2 * moved / self._calls.seconds(*update)
        )

    def operations(self) -> float:
        """Multiply two matrices, in each thread; give operations a second."""
        threads, dtype = self._calls.threads, self._dtype
        one = [_product(self._backend, rows, dtype, self._host) for rows in (PRODUCT, 1)]
        whole, nothing = ([each] * threads for each in one)
        fastest = min(self._calls.seconds(whole, nothing) for _ in range(ROUNDS))
        return 2 * PRODUCT**3 * threads / fastest


Task = tuple[list[Callable[[], Any]], list[Callable[[], Any]]]
"""One call for each thread, and the same on next to nothing, whose time is that of the call."""


def _moving(touched: int, dtype: str, threads: int) -> tuple[Task, Task]:
    def arrays(count: int) -> list[Any]:
        return [np.ones(max(1, count), dtype) for _ in range(threads)]

    def read(array: Any) -> Callable[[], Any]:
        return lambda: np.dot(array, array)

    def update(array: Any) -> Callable[[], Any]:
        one = array.dtype.type(1.0)  # Scaled by anything else, numbers would become denormal.
        return lambda: np.multiply(array, one, out=array)

    shares, ones = arrays(math.ceil(touched / threads)), arrays(1)
    return (
        ([read(share) for share in shares], [read(one) for one in ones]),
        ([update(share) for share in shares], [update(one) for one in ones]),
    )


def _moving_on_device(backend: Backend, touched: int, dtype: str) -> tuple[Task, Task]:
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


class _Calls:
    """Take the time of calls made again and again, in threads of their own."""

    def __init__(self, threads: int, wait: Callable[[Any], Any] = lambda result: None) -> None:
        self.threads = threads
        self._wait = wait

    def seconds(self, functions: list[Callable[[], Any]], empty: list[Callable[[], Any]]) -> float:
        """Give the seconds of one call of all functions at once, less what calling costs."""
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
