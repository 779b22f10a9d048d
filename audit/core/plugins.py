"""What other distributions bring through entry points, and whose fault it is when that cannot be loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points

from audit.core.errors import SetupError, UsageError, fault_line

log = logging.getLogger("audit")


@contextmanager
def naming_the_plugin(point: EntryPoint) -> Iterator[None]:
    """Turn any error of the block into one that names the distribution behind an entry point.

    Args:
        point: The entry point that is being loaded.

    Raises:
        SetupError: What it names cannot be imported, or is not what its group asks for.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as fault:
        source = point.dist.name if point.dist else "an installed package"
        raise SetupError(
            f"The plug-in {point.name!r} of {source} ({point.group}: {point.value}) cannot be loaded: "
            f"{fault_line(fault)}. Mend that package or uninstall it."
        ) from fault


def load_methods(*, needed: bool) -> None:
    """Import the modules that other distributions name as holding methods.

    Args:
        needed: Whether the methods are going to be run. Where a finished run is read, one that is missing is only
            warned of.

    Raises:
        SetupError: One cannot be imported, and it is needed.
    """
    for point in entry_points(group="audit.methods"):
        try:
            with naming_the_plugin(point):
                point.load()
        except SetupError as fault:
            if needed:
                raise
            log.warning("%s Until then it is left out.", fault)
