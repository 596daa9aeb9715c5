"""JAX's part of the benchmark: memory, from the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from uoro_jax.backend import JaxBackend

from uoro.lab.bench.instrument import ExtraRow, PeakMemory


class JaxInstrument:
    """The instrument of JAX.

    Args:
        backend: Backend on the device.
    """

    def __init__(self, backend: JaxBackend) -> None:
        self._backend = backend

    def set_threads(self, threads: int) -> None:
        """Do nothing: XLA starts one thread per core of the process."""

    def hardware(self) -> str:
        """Return the name of an accelerator; empty for the CPU."""
        platform, _, index = self._backend.device.partition(":")
        kind: str = jax.devices(platform)[int(index)].device_kind
        return "" if platform == "cpu" else kind

    def wait(self) -> None:
        """Do nothing: every chunk ends with reading its losses, which waits for the params."""

    def extras(self) -> dict[str, ExtraRow]:
        """Return no rows."""
        return {}

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Return the sum of arguments, results and temporary memory."""
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
        """Return no peak: compilation itself takes memory of the process."""
        return lambda: None


def instrument(backend: JaxBackend) -> JaxInstrument:
    """Build the instrument of a backend."""
    return JaxInstrument(backend)
