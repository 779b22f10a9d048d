"""Documents of earlier versions, converted to the names of this one."""

from __future__ import annotations

from typing import Any

from audit.core.topic import current_name
from audit.document.schema import SCHEMA_VERSION


def upgrade(raw: dict[str, Any]) -> dict[str, Any]:
    """An audit document of any earlier version with the fields, studies and checks of this version.

    Version 1 (0.1.0) used other names for some of them; topics declare what replaced them (`Topic.former_names`).

    Args:
        raw: The parsed `audit.json`, whose rows are changed in place.
    """
    document = {current_name(field): value for field, value in raw.items()} | {"schema_version": SCHEMA_VERSION}
    for finding in document.get("findings", ()):
        finding["check"] = current_name(finding.get("check"))
    for row in (*document.get("measures", ()), *document.get("gaps", ()), *_costs(document)):
        row["study"] = current_name(row.get("study"))
    return document


def _costs(document: dict[str, Any]) -> Any:
    return document.get("protocol", {}).get("costs", ())
