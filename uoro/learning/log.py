"""What the library reports while it works: silent until the user's own logging listens."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("uoro")
# Without it, warnings would be printed where logging was never set up.
LOGGER.addHandler(logging.NullHandler())
