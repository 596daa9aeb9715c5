"""Compilation: options of XLA, donated buffers, and a cache on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from uoro.arguments import mismatch, require_path
from uoro.errors import SettingError, spelled

# Without this option, XLA on a CPU copies the carry of a loop wherever an old value is read after
# the new one was begun, as θ̃ is by the gradient: 10 % of a step of 64 units, 25 % at 512 units.
_CPU = {"xla_cpu_copy_insertion_use_region_analysis": True}


def compiler_options() -> dict[str, bool] | None:
    """Return the compiler options of this library, for a `jax.jit` of your own.

    Returns:
        Options for ``jax.jit(..., compiler_options=...)``; ``None`` on other platforms than the
        CPU, or if this version of XLA does not support them.

    Example:
        >>> import jax
        >>> from uoro_jax import compiler_options
        >>> double = jax.jit(lambda x: 2 * x, compiler_options=compiler_options())
        >>> float(double(1.0))
        2.0
    """
    return dict(_CPU) if _takes_them() else None


@cache
def _takes_them() -> bool:
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda x: x, compiler_options=dict(_CPU))(0.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


class Donating:
    """A compiled function that overwrites its first argument.

    The first call overwrites a copy: the initial value belongs to the caller.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        options = compiler_options()
        self._compiled = jax.jit(function, donate_argnums=0, compiler_options=options)
        self.lower = self._compiled.lower
        self._called = False

    def __call__(self, first: Any, *arguments: Any) -> Any:
        """Call the function."""
        if not self._called:
            first = jax.tree.map(jnp.copy, first)
            self._called = True
        return self._compiled(first, *arguments)


def fast_options() -> str:
    """Return flags for ``XLA_FLAGS`` with which a CPU's programs compile twice as fast.

    The programs are slower; for those that run for a moment that does not matter. XLA ends a
    process at a flag that it does not know, so all but the first are given to tried versions alone.
    """
    tried = version("jaxlib").startswith("0.10.")
    return "--xla_backend_optimization_level=0" + (
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if tried
        else ""
    )


def compile_fast() -> None:
    """Set `fast_options` for XLA in this process and in those that it starts.

    To be called before anything is compiled, as XLA reads its flags once; later it changes nothing.
    Nor does it where the environment has ``XLA_FLAGS`` already, even if they are empty.
    """
    os.environ.setdefault("XLA_FLAGS", fast_options())


def keep_compiled(folder: str | Path) -> None:
    """Cache compiled functions in a folder, for later processes.

    The function sets JAX's global options: they apply to every function that this process compiles
    with JAX.

    Args:
        folder: Path of the cache; created if it does not exist.

    Raises:
        SettingError: If the folder is not writable, or no path.
    """
    path = require_path("keep_compiled(folder)", "folder", folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        call = f"keep_compiled({spelled(str(folder))})"
        raise SettingError(mismatch(call, "", "a writable folder", str(error))) from error
    config: Any = jax.config
    config.update("jax_compilation_cache_dir", str(path.resolve()))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
