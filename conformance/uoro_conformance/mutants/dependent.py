"""Backends whose signs depend on each other in one way each, and right ones that draw otherwise.

Each replaces `Backend.random`; those of ``OVER_TIME`` are made of arrays of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from uoro_conformance.mutants.wrong_backends import altered_backend

from uoro.backend import Backend

Change = Callable[[Backend, list[Any], Callable[[int], list[Any]]], list[Any]]
"""From the rows of each leaf, and a function that draws further ones, to other rows."""


def _redrawn(change: Change) -> Callable[[Backend], Any]:
    """Build a backend that changes each leaf of what it drew, as rows: one row a stream."""

    def build(backend: Backend) -> Any:
        def random(
            key: Any, like: Any, law: Any, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> Any:
            def draw(number: int) -> Any:
                folded = key if number == 0 else backend.fold(key, 1000 + number)
                return backend.random(folded, like, law, batch, stacked)

            def rows(tree: Any) -> list[Any]:
                leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(tree)]
                lead = stacked + len(batch)
                shapes = [tuple(leaf.shape) for leaf in leaves]
                return [
                    leaf.reshape((*shape[:lead], int(np.prod(shape[lead:]))))
                    for leaf, shape in zip(leaves, shapes, strict=True)
                ]

            drawn = draw(0)
            changed = iter(change(backend, rows(drawn), lambda number: rows(draw(number))))
            return backend.map(lambda leaf: next(changed).reshape(leaf.shape), drawn)

        return altered_backend(backend, random=random)

    return build


def _joined(backend: Backend, *parts: Any) -> Any:
    return backend.xp.concatenate(parts, -1)


def _same_for_leaves(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    widest = max(rows, key=lambda row: int(row.shape[-1]))
    return [row if backend.parts(row) == 2 else widest[..., : int(row.shape[-1])] for row in rows]


def _same_scalar(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Give leaves of one entry the first sign of the largest."""
    widest = max(rows, key=lambda row: int(row.shape[-1]))
    return [widest[..., :1] if int(row.shape[-1]) == 1 else row for row in rows]


def _same_parts(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    return [row.real * (1 + 1j) if backend.parts(row) == 2 else row for row in rows]


def _first_256(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    return [
        _joined(backend, row[..., :256], row[..., : int(row.shape[-1]) - 256])
        if 256 < int(row.shape[-1]) <= 512
        else row
        for row in rows
    ]


def _first_65536(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    return [
        _joined(backend, row[..., :65536], row[..., :65536]) if int(row.shape[-1]) == 2**17 else row
        for row in rows
    ]


def _third_of_two(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Make the third entry of small leaves the product of the first two."""
    return [
        _joined(backend, row[..., :2], row[..., :1] * row[..., 1:2], row[..., 3:])
        if 3 <= int(row.shape[-1]) < 100 and backend.parts(row) == 1
        else row
        for row in rows
    ]


def _even(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Make the last entry of large leaves such that the number of -1 is even."""
    found = []
    for row in rows:
        if backend.parts(row) == 1 and 100 < int(row.shape[-1]) < 1000:
            product = backend.xp.prod(row[..., :-1], -1)
            row = _joined(backend, row[..., :-1], product[..., None])
        found.append(row)
    return found


def _antithetic(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Make the second half of the entries minus the first."""
    found = []
    for row in rows:
        half = int(row.shape[-1]) // 2
        middle = row[..., 2 * half :]
        found.append(_joined(backend, row[..., :half], -row[..., :half], middle))
    return found


def _eight_streams(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Repeat the streams from the ninth on."""
    return [
        backend.xp.concatenate([row[:8], row[: int(row.shape[0]) - 8]], 0)
        if len(row.shape) > 1 and 8 < int(row.shape[0]) <= 16
        else row
        for row in rows
    ]


def _slanted(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Turn a 1/64 of all signs to +1: P(+1) = 0.508."""
    others = [draw(n) for n in range(1, 6)]
    found = []
    for number, row in enumerate(rows):
        if backend.parts(row) == 1:
            minus = row < 0
            for other in others:
                minus = minus & (other[number] < 0)
            row = backend.xp.where(minus, -row, row)
        found.append(row)
    return found


def _period(length: int) -> Callable[[Backend], Any]:
    """Build a backend whose keys repeat after some number of steps."""

    def build(backend: Backend) -> Any:
        return altered_backend(backend, fold=lambda key, n: backend.fold(key, n % length))

    return build


DEPENDENT: dict[str, Callable[[Backend], Any]] = {
    "the same signs for every leaf": _redrawn(_same_for_leaves),
    "a scalar has the first sign of a vector": _redrawn(_same_scalar),
    "one sign for real and imaginary part": _redrawn(_same_parts),
    "entries repeat after 256": _redrawn(_first_256),
    "entries repeat after 65,536": _redrawn(_first_65536),
    "the third entry is the product of two": _redrawn(_third_of_two),
    "an even number of minus signs": _redrawn(_even),
    "half of the entries are minus the others": _redrawn(_antithetic),
    "streams repeat after the eighth": _redrawn(_eight_streams),
    "P(+1) = 0.508": _redrawn(_slanted),
    "keys repeat after 40 steps": _period(40),
}
"""From a backend to one whose draws are refused: by ``sampling/leaves``, and the repetition after
65,536 entries by ``sampling/large``."""


def _product(backend: Backend, rows: list[Any], draw: Any) -> list[Any]:
    """Multiply two draws."""
    return [
        row.real * other.real + 1j * row.imag * other.imag
        if backend.parts(row) == 2
        else row * other
        for row, other in zip(rows, draw(1), strict=True)
    ]


INDEPENDENT: dict[str, Callable[[Backend], Any]] = {
    "all signs flipped": _redrawn(lambda backend, rows, draw: [-row for row in rows]),
    "another stream of keys": _redrawn(lambda backend, rows, draw: draw(1)),
    "products of two draws": _redrawn(_product),
}
"""Right backends that draw other signs."""

Draw = Callable[[np.random.Generator, tuple[int, int, int, int]], Any]


def _fair(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return generator.choice(np.array([-1, 1], np.int8), shape)


def _of_two_before(generator: np.random.Generator, shape: tuple[int, int, int, int]) -> Any:
    """Draw each step as the product of two before, 9 and 4 steps earlier."""
    draws = _fair(generator, shape)
    for step in range(9, shape[1]):
        draws[:, step] = draws[:, step - 4] * draws[:, step - 9]
    return draws


def _lag(lag: int) -> Draw:
    def draw(generator: np.random.Generator, shape: tuple[int, int, int, int]) -> Any:
        draws = _fair(generator, shape)
        repeats = generator.random(shape) < 0.1
        for step in range(lag, shape[1]):
            draws[:, step] = np.where(repeats[:, step], draws[:, step - lag], draws[:, step])
        return draws

    return draw


def _as_many(generator: np.random.Generator, shape: tuple[int, int, int, int]) -> Any:
    """Draw as many +1 as -1 at each step, in random order."""
    row = np.resize(np.array([-1, 1], np.int8), shape[3])
    return generator.permuted(np.broadcast_to(row, shape), axis=3)


def _parity(generator: np.random.Generator, shape: tuple[int, int, int, int]) -> Any:
    """Draw the last of four coordinates as the product of three."""
    draws = _fair(generator, shape)
    draws[..., 3] = draws[..., 0] * draws[..., 1] * draws[..., 2]
    return draws


OVER_TIME: dict[str, Draw] = {
    "the product of the signs 4 and 9 steps ago": _of_two_before,
    "a tenth repeats after 64 steps": _lag(64),
    "a tenth repeats after 17 steps": _lag(17),
    "as many plus as minus at each step": _as_many,
    "the fourth is the product of three": _parity,
}
"""From a generator and (runs, steps, streams, coordinates) to draws that are refused."""
