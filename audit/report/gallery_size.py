"""Reducing the pictures of a document."""

from __future__ import annotations

from audit.config import GALLERY_SIZES
from audit.core.errors import UsageError
from audit.core.topic import topics
from audit.document.model import DocumentModel, Picture
from audit.document.schema import AuditDocument


def limit_gallery(document: AuditDocument, size: int | None) -> AuditDocument:
    """A document with the first images of its gallery.

    Args:
        document: The document of a run.
        size: Number of images; None for all.

    Raises:
        UsageError: The run stored fewer images.
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
    """A document without pictures; its numbers, names and findings stay.

    Args:
        document: The document of a run.
    """
    fields = {name: getattr(document, name) for topic in topics() for name in topic.document}
    trimmed = {name: [_without_pictures(row) for row in rows] for name, rows in fields.items()}
    return document.model_copy(update={"gallery": [], **trimmed})


def _without_pictures(row: DocumentModel) -> DocumentModel:
    pictures = [name for name, value in row if isinstance(value, Picture)]
    return row.model_copy(update=dict.fromkeys(pictures)) if pictures else row
