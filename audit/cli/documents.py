"""Where the document of a run lies, as a person names it."""

from __future__ import annotations

from pathlib import Path


def document_path(run: Path) -> Path:
    """The audit.json of a run folder, or the file itself."""
    return run if run.is_file() or run.suffix == ".json" else run / "audit.json"
