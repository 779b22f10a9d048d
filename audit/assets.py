"""Where the files that ship with the package are: `templates/` and `samples/`."""

from __future__ import annotations

from pathlib import Path

from audit.errors import EnvironmentFault


def folder(name: str) -> Path:
    """The shipped folder `name`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    raise EnvironmentFault(f"The package's {name!r} folder is missing; reinstall audit.")
