"""Documents of earlier versions, brought to the names of this one."""

from __future__ import annotations

from typing import Any

from audit.core.topic import current_name


def upgrade(raw: dict[str, Any]) -> dict[str, Any]:
    """An audit document of any earlier version with the fields, studies and checks of this version.

    Version 1 (0.1.0) called some of them otherwise; topics declare what took the place of what (`Topic.former_names`).

    Args:
        raw: The parsed `audit.json`.
    """
    document = {current_name(field): value for field, value in raw.items()}
    for finding in document.get("findings", ()):
        finding["check"] = current_name(finding["check"])
    for row in (*document.get("measures", ()), *document.get("gaps", ()), *document["protocol"]["costs"]):
        row["study"] = current_name(row["study"])
    return document
