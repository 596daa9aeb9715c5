"""The library's logger, ``"uoro"``: silent until the user configures logging."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("uoro")
# Without a handler, Python prints warnings where logging was never configured.
LOGGER.addHandler(logging.NullHandler())
