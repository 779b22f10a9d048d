"""Where the files that ship with the package are."""

from __future__ import annotations

from pathlib import Path

from audit.core.errors import SetupError


def resource_dir(name: str) -> Path:
    """A folder that ships: inside the installed package, or beside it in a checkout.

    Args:
        name: "templates" or "samples".

    Raises:
        SetupError: The folder is missing.
    """
    package = Path(__file__).parent.parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise SetupError(f"The package's {name!r} folder is missing; reinstall audit.")
