"""What JAX adds to the benchmark: memory as its compiler knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from uoro_jax.backend import JaxBackend

from uoro.lab.bench.instrument import ExtraRow, PeakMemory


class JaxInstrument:
    """Measure JAX.

    Args:
        backend: On whose device.
    """

    def __init__(self, backend: JaxBackend) -> None:
        self._backend = backend

    def set_threads(self, threads: int) -> None:
        """Do nothing: XLA starts as many threads as the process has cores."""

    def hardware(self) -> str:
        """Name an accelerator."""
        platform, _, index = self._backend.device.partition(":")
        kind: str = jax.devices(platform)[int(index)].device_kind
        return "" if platform == "cpu" else kind

    def wait(self) -> None:
        """Do nothing: losses are read at the end of every chunk, which its params come with."""

    def extras(self) -> dict[str, ExtraRow]:
        """Have none."""
        return {}

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Add up arguments, results and what is needed in between."""
        compiled = program.lower(*arguments).compile()  # type: ignore[attr-defined]  # of jax.jit
        found = compiled.memory_analysis()
        if found is None:
            return None
        parts = {
            "arguments": found.argument_size_in_bytes,
            "results": found.output_size_in_bytes,
            "in between": found.temp_size_in_bytes,
            "results in the place of arguments": -found.alias_size_in_bytes,
        }
        how = "arguments, results and what is in between, of the compiled chunk"
        return PeakMemory(sum(parts.values()), how, parts)

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Leave it to the compiler: a process that compiles needs memory for that."""
        return lambda: None


def instrument(backend: JaxBackend) -> JaxInstrument:
    """Make the instrument of a backend."""
    return JaxInstrument(backend)
