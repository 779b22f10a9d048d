"""The small values every part of the document is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class DocumentModel(BaseModel):
    """A piece of the document: nothing in it but what is named."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Proportion(DocumentModel):
    """A share of examples with its 95% interval (Wilson, unless `method` says otherwise)."""

    estimate: float
    low: float
    high: float
    n: int
    method: str = "Wilson 95%"


class Cost(DocumentModel):
    """Examples forwarded and back-propagated."""

    forwards: int
    backwards: int


class Picture(DocumentModel):
    """A thumbnail: base64 of `media_type` bytes, `height` x `width` pixels; lossless up to 64 pixels a side."""

    media_type: str
    height: int
    width: int
    data: str


class Heatmap(DocumentModel):
    """An attribution as a grey sprite in 32 shades: pixel 0..255 stands for -scale..scale (signed) or 0..scale.

    `scale` is shared by the maps of a method and a model where `largest`, the map's own largest absolute value, stands
    beside it; stronger values are drawn as `scale`.
    """

    picture: Picture
    signed: bool
    scale: float
    largest: float | None = None
