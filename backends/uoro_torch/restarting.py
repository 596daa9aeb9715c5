"""Some of several streams start anew: their episodes have ended."""

from __future__ import annotations

from typing import Any

from uoro.algebra import select
from uoro_torch.guards import require_mask, require_several
from uoro_torch.saving import require_none_waiting


def restart_streams(online: Any, mask: Any, fresh: Any, example: Any) -> None:
    """Give the streams of a mask a fresh state and an estimate of zero.

    Args:
        online: `Online` of several streams.
        mask: Boolean for each stream.
        fresh: State of all streams, taken where the mask is true.
        example: Item of the last step; ``None`` before the first.

    Raises:
        SettingError: If there is a single stream, or a loaded carry waits for an item.
        StructureError: If the mask is no boolean for each stream.
    """
    streams = require_several("Online.reset(mask)", online.estimator)
    backend = online.dynamics.backend
    mask = require_mask(mask, len(streams.rows), backend.device)
    require_none_waiting(online)
    if online.carry is None:
        online.state = select(backend, mask, fresh, online.state)
        return
    online.carry, online.state = streams.reset(
        online.dynamics, online.params, online.carry, online.state, mask, fresh, inputs=example
    )
