"""Where fpclass keeps what it can make again: the drawn data set, decoded arrays, compiled programs."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache folder of fpclass; it need not exist yet.

    Returns:
      The folder that the environment variable FPCLASS_CACHE names, or the platform's usual place.
    """
    chosen = os.environ.get("FPCLASS_CACHE", "")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("fpclass")
