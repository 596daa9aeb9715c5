"""Mapped, scanned and compiled functions, against Python loops."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro_conformance.backend.specimens import compare, example_stack
from uoro_conformance.finding import Finding, worst


def check_loops(backend: Backend, dtype: str) -> Finding:
    """Check `vmap`, `compile`, and `scan` in both directions and in parts, against Python loops."""
    host = backend.to_host(backend.from_host(example_stack(4), dtype=dtype))["array"].astype(
        np.float64
    )
    stack = backend.from_host(example_stack(4), dtype=dtype)
    shared = backend.from_host(np.arange(1.0, 5.0), dtype=dtype)
    agree = partial(compare, backend=backend, dtype=dtype)

    def each(entry: Any, factor: Any) -> Any:
        return {"product": entry["array"] * shared * factor, "sum": entry["array"].sum()}

    def body(carry: Any, entry: Any) -> tuple[Any, Any]:
        carry = 0.5 * carry + entry["array"]
        return carry, {"seen": carry * 2.0}

    factors = np.array([1.0, -2.0, 3.0, 0.5])
    mapped = backend.vmap(each)(stack, backend.from_host(factors, dtype=dtype))
    found = [
        agree(
            "vmap is a loop",
            got=mapped,
            expected={"product": host * np.arange(1.0, 5.0) * factors[:, None], "sum": host.sum(1)},
        )
    ]
    start = backend.from_host(np.zeros(4), dtype=dtype)
    for bounds in ((0, 4), (1, 3), (2, 3)):
        carry, seen = np.zeros(4), np.zeros((4, 4))
        for i in range(*bounds):
            carry = 0.5 * carry + host[i]
            seen[i] = 2.0 * carry
        part = backend.compile(lambda *bounds: backend.scan(body, start, stack, bounds=bounds))
        law = f"scan from {bounds[0]} up to {bounds[1]} is a loop"
        found.append(agree(law, got=part(*bounds), expected=(carry, {"seen": seen})))
    for reverse in (False, True):
        carry, outputs = np.zeros(4), []
        for row in host[::-1] if reverse else host:
            carry = 0.5 * carry + row
            outputs.append(2.0 * carry)
        expected = carry, {"seen": np.stack(outputs[::-1] if reverse else outputs)}
        run = partial(backend.scan, body, reverse=reverse)
        for name, scan in (("scan", run), ("compiled scan", backend.compile(run))):
            law = f"{name} is a loop{' in reverse' if reverse else ''}"
            found.append(agree(law, got=scan(start, stack), expected=expected))
            twice = backend.combine((2.0, start + 1.0)), backend.combine((0.0, stack))
            decayed = 2.0 * 0.5 ** len(host) * np.ones(4)
            found.append(agree(f"{law}, called again", got=scan(*twice)[0], expected=decayed))
    return worst(found)._replace(law="loops are loops")
