"""Where what can be made again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """`AUDIT_CACHE_DIR`, else the platform's cache folder for this suite."""
    folder = os.environ.get("AUDIT_CACHE_DIR")
    return Path(folder) if folder else user_cache_path("audit")
