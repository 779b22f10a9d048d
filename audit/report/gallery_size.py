"""How many pictures a rendering holds: never more than its document."""

from __future__ import annotations

from audit.config import GALLERY_SIZES
from audit.core.errors import UsageError
from audit.core.topic import topics
from audit.document.model import DocumentModel, Picture
from audit.document.schema import AuditDocument


def limit_gallery(document: AuditDocument, size: int | None) -> AuditDocument:
    """A document cut to some of the images of its gallery.

    Args:
        document: The document of a run.
        size: How many images; None for all.

    Raises:
        UsageError: The run kept fewer images.
    """
    if size is None:
        return document
    stored = document.protocol.configuration.get("report", {}).get("gallery", len(document.gallery))
    if stored < size:
        detail = next((word for word, images in GALLERY_SIZES.items() if images == size), "high")
        raise UsageError(
            f"This run kept {len(document.gallery)} images, and --detail {detail} shows {size}. "
            f"Run the audit again with --detail {detail}."
        )
    return document.model_copy(update={"gallery": document.gallery[:size]})


def without_images(document: AuditDocument) -> AuditDocument:
    """The document without any picture; its numbers, names and findings stay."""
    fields = {name: getattr(document, name) for topic in topics() for name in topic.document}
    bare = {name: [_without_pictures(row) for row in rows] for name, rows in fields.items()}
    return document.model_copy(update={"gallery": [], **bare})


def _without_pictures(row: DocumentModel) -> DocumentModel:
    pictures = [name for name, value in row if isinstance(value, Picture)]
    return row.model_copy(update=dict.fromkeys(pictures)) if pictures else row
