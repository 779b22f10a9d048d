"""The small values every part of the document is made of."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from audit.core.statistics import Interval
from audit.results.run_results import TaskResult


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


class CurvePoint(DocumentModel):
    """Robust accuracy at one eps: an upper bound on the truth from attacks, a lower one from certificates."""

    eps: float
    robust: Proportion


def proportion(interval: Interval) -> Proportion:
    """An interval of a share as the document holds it."""
    return Proportion(
        estimate=interval.estimate, low=interval.low, high=interval.high, n=interval.n, method=interval.method
    )


def cost_of(entries: Sequence[TaskResult]) -> Cost:
    """What some tasks cost together."""
    return Cost(
        forwards=sum(e.evidence.forwards for e in entries), backwards=sum(e.evidence.backwards for e in entries)
    )
