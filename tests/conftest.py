"""Fixtures: each bundled backend in float64. All three are required; none is ever skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from uoro import Backend, load_backend

BACKENDS = ("autograd", "torch", "jax")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    loaded = load_backend(request.param)
    with loaded.precision("float64"):
        yield loaded
