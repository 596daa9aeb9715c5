"""Fixtures: each bundled backend in float64. All three are required; none is ever skipped."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Iterator

import jax
import pytest

from uoro import Backend, load_backend
from uoro.files.resident import resident

BACKENDS = ("autograd", "torch", "jax")

ENOUGH, MUCH = 1.2e9, 2e8
"""Resident bytes of a worker from which on it frees what it compiled, and how many more it must
have than after the last time."""

_left = [0]
"""Resident bytes after each time."""

# Programs that run for a moment need not be optimized for as long as that takes; those of processes
# that tests start neither. With `XLA_FLAGS= make test` they are optimized as a user's are.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Let JAX keep what it compiled, for this process alone.

    Many tests make the same learner anew, twice or more often. It is compiled anew each time, as
    it is another function; that is most of what these tests would cost.
    """
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    with tempfile.TemporaryDirectory(prefix="compiled-") as folder:
        for name, value in zip(names, (folder, 0, -1), strict=True):
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
        yield
        jax.config.update(names[0], None)  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def compiled_programs_let_go() -> Iterator[None]:
    """Free what tests compiled, once it is much: a worker that kept all would need 5 GB."""
    yield
    if (resident() or 0) < max(ENOUGH, _left[-1] + MUCH):
        return
    jax.clear_caches()  # type: ignore[no-untyped-call]  # JAX's own has no types
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory otherwise.
    _left.append(resident() or 0)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    loaded = load_backend(request.param)
    with loaded.precision("float64"):
        yield loaded
