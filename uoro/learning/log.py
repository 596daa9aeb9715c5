"""The library's logger, ``"uoro"``: silent until the user configures logging."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("uoro")
# Without a handler, Python prints warnings where logging was never configured.
LOGGER.addHandler(logging.NullHandler())


def say(message: str) -> None:
    """Log what takes a while, and print it on standard error where nobody has set up logging."""
    LOGGER.info(message)
    handlers = [*LOGGER.handlers, *logging.getLogger().handlers]
    if all(isinstance(handler, logging.NullHandler) for handler in handlers):
        print(f"uoro: {message}", file=sys.stderr, flush=True)
