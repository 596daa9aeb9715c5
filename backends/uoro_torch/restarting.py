"""Some of several streams start anew: their episodes have ended."""

from __future__ import annotations

from typing import Any

from uoro.algebra import select
from uoro_torch.guards import require_mask, require_several
from uoro_torch.running import Running
from uoro_torch.saving import require_none_waiting


def restart_streams(now: Running, estimator: Any, dynamics: Any, mask: Any, fresh: Any) -> None:
    """Give the streams of a mask a fresh state and an estimate of zero.

    Args:
        now: Where the `Online` stands.
        estimator: Its estimator, of several streams.
        dynamics: Its model.
        mask: Boolean for each stream.
        fresh: State of all streams, taken where the mask is true.

    Raises:
        SettingError: If there is a single stream, or a loaded carry waits for an item.
        StructureError: If the mask is no boolean for each stream.
    """
    streams, backend = require_several("Online.reset(mask)", estimator), dynamics.backend
    mask = require_mask(mask, len(streams.rows), backend.device)
    require_none_waiting(now, estimator)
    if now.carry is None:
        now.state = select(backend, mask, fresh, now.state)
        return
    now.carry, now.state = streams.reset(
        dynamics, now.params, now.carry, now.state, mask, fresh, inputs=now.example
    )
