"""Fixtures: each bundled backend in float64. All three are required; none is ever skipped."""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import jax
import pytest
from uoro_jax.compiling import compile_fast

from uoro import Backend, load_backend
from uoro.files.resident import resident

BACKENDS = ("autograd", "torch", "jax")

ONE_OF = 4
"""Of how many cases of a test on JAX `make test` runs one."""

ENOUGH, MUCH = 1.2e9, 2e8
"""Resident bytes of a worker from which on it frees what it compiled, and how many more it must
have than after the last time."""

LONGEST = (
    "test_suite_on_backends", "test_joint", "test_many_devices", "test_kronecker", "test_suite",
    "test_train_killed", "test_documents", "test_cli", "test_learner", "test_jax_core",
    "test_backends_agree", "test_public_errors", "test_resuming", "test_train", "test_compiling",
    "test_torch_modules", "test_examples", "test_torch_waiting", "test_wrong_and_right",
    "test_jax_models", "test_real_models", "test_frameworks_agree", "test_declared",
)  # fmt: skip
"""The files that take longest. They go first, so that no worker is left with one at the end."""

_left = [0]
"""Resident bytes after each time."""

# Programs that run for a moment need not be optimized for as long as that takes; those of processes
# that tests start neither. With `XLA_FLAGS= make test` they are optimized as a user's are.
compile_fast()


def _is_on_jax(item: pytest.Item) -> bool:
    given = getattr(item, "callspec", None)
    return given is not None and any(
        (isinstance(value, str) and value == "jax") or getattr(value, "backend", None) == "jax"
        for value in given.params.values()
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most cases on JAX to the thorough tests, and begin with the longest files.

    An estimator is one file for all backends, and a test on JAX is mostly compilation, twenty times
    the rest. So `make test` runs every fourth case of a test there, and all on the other backends;
    it shares out whole files in order.
    """
    cases = Counter[str]()
    for item in items:
        if _is_on_jax(item) and "thorough" not in item.keywords:
            name = item.nodeid.partition("[")[0]
            if cases[name] % ONE_OF:
                item.add_marker(pytest.mark.thorough)
            cases[name] += 1
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


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
