"""Where the library says what happened: the logger ``uoro``, silent unless somebody listens."""

from __future__ import annotations

import logging

logger = logging.getLogger("uoro")
# Without a handler, Python would print warnings to standard error by itself.
logger.addHandler(logging.NullHandler())
