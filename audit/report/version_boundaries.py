"""Releases of the libraries since which the same weights and images give other numbers, for whoever compares two runs.

Measured by `python tests/benchmarks/versions.py`; the table of `samples/versions.md` says by how much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.core.note import Note, note


@dataclass(frozen=True)
class VersionBoundary:
    """One behaviour that changed.

    Attributes:
        package: Its library, as `Protocol.environment` names it.
        release: The first release that behaves in the new way, as numbers.
        effect: What differs, as a part of a sentence.
    """

    package: str
    release: tuple[int, ...]
    effect: Note


BOUNDARIES = (
    VersionBoundary(
        "torch",
        (2, 12),
        note(
            "boundary_truncated_normal",
            "one seed gives truncated normals of other numbers, so a transformer or ConvNeXt of torchvision that is "
            "trained from nothing begins with other weights",
        ),
    ),
    VersionBoundary(
        "torch",
        (2, 14),
        note(
            "boundary_clamp",
            "a clamp has no gradient exactly on its bounds any more, so maps of a net that clamps its input, and "
            "attacks made by other tools, differ at black and white pixels",
        ),
    ),
)
"""What changed, by library and release."""


def boundaries_crossed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Note]:
    """A sentence for each boundary that lies between the environments of two runs.

    Args:
        before: `Protocol.environment` of the first run.
        after: That of the second.
    """
    for boundary in BOUNDARIES:
        first, second = (str(environment.get(boundary.package, "")) for environment in (before, after))
        if first and second and (_numbers(first) < boundary.release) != (_numbers(second) < boundary.release):
            yield note(
                "version_boundary",
                "The runs were made with {package} {first} and {second}. Since {release}, {effect}.",
                package=boundary.package,
                first=first,
                second=second,
                release=".".join(map(str, boundary.release)),
                effect=boundary.effect,
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.14.1+cpu is (2, 14, 1)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading.group().split("."))) if leading else ()
