"""How many pictures a rendering shows: never more than its document holds."""

from __future__ import annotations

from collections.abc import Mapping

from audit.core.errors import UsageError, unknown_name
from audit.core.topic import topics
from audit.document.model import DocumentModel, Picture
from audit.document.schema import AuditDocument

DETAILS: Mapping[str, int] = {"normal": 16, "high": 200}
"""Images in the gallery, each with the maps of every method."""


def settings_of(detail: str | None) -> dict[str, int]:
    """The configuration keys behind `--detail`, none when it is not given. Raises UsageError that lists the levels."""
    if detail is None:
        return {}
    if detail not in DETAILS:
        raise unknown_name("detail", detail, DETAILS)
    return {"report.gallery": DETAILS[detail]} | (
        {"explanations.examples": DETAILS[detail]} if detail == "high" else {}
    )


def at_detail(document: AuditDocument, detail: str | None) -> AuditDocument:
    """The document with as many images as `detail` shows; as it is when None. Raises UsageError where the run kept
    fewer than that."""
    if detail is None:
        return document
    wanted = settings_of(detail)["report.gallery"]
    kept = document.protocol.configuration.get("report", {}).get("gallery", len(document.gallery))
    if kept < wanted:
        raise UsageError(
            f"This run kept {len(document.gallery)} images, and --detail {detail} shows {wanted}. "
            f"Run the audit again with --detail {detail}."
        )
    return document.model_copy(update={"gallery": document.gallery[:wanted]})


def without_images(document: AuditDocument) -> AuditDocument:
    """The document without any picture; its numbers, names and findings stay."""
    fields = {name: getattr(document, name) for topic in topics() for name in topic.document}
    bare = {name: [_without_pictures(row) for row in rows] for name, rows in fields.items()}
    return document.model_copy(update={"gallery": [], **bare})


def _without_pictures(row: DocumentModel) -> DocumentModel:
    pictures = [name for name, value in row if isinstance(value, Picture)]
    return row.model_copy(update=dict.fromkeys(pictures)) if pictures else row
