"""Values that every part of the document is made of."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from audit.core.statistics import Interval
from audit.results.run_results import TaskResult


class DocumentModel(BaseModel):
    """Base of every part of the document; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Proportion(DocumentModel):
    """A share of examples with its 95% interval.

    Attributes:
        estimate: The share, in [0, 1].
        low: Lower bound.
        high: Upper bound.
        n: Number of examples.
        method: Name of the interval.
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str = "Wilson 95%"


class Cost(DocumentModel):
    """What a computation cost.

    Attributes:
        forwards: Examples forwarded.
        backwards: Examples back-propagated.
    """

    forwards: int
    backwards: int


class Picture(DocumentModel):
    """A thumbnail, lossless up to 64 pixels a side.

    Attributes:
        media_type: Such as "image/webp".
        height: Height in pixels.
        width: Width in pixels.
        data: The file in base64.
    """

    media_type: str
    height: int
    width: int
    data: str


class Heatmap(DocumentModel):
    """An attribution as a grey sprite in 32 shades.

    Attributes:
        picture: The sprite: 0 to 255 stand for -scale to scale where signed, for 0 to scale otherwise.
        signed: Whether there are negative values.
        scale: The absolute value in full colour; larger ones are drawn as `scale`.
        largest: The map's own largest absolute value, where `scale` is shared by the maps of a method and a model; None
            where `scale` is the map's own.
    """

    picture: Picture
    signed: bool
    scale: float
    largest: float | None = None


class CurvePoint(DocumentModel):
    """Robust accuracy at one eps.

    Attributes:
        eps: Size of the ball, in units of the pixel range [0, 1].
        robust: Robust accuracy: from attacks an upper bound on the true one, from certificates a lower bound.
    """

    eps: float
    robust: Proportion


def proportion(interval: Interval) -> Proportion:
    """The interval of a share, as the document holds it.

    Args:
        interval: The interval.
    """
    return Proportion(
        estimate=interval.estimate, low=interval.low, high=interval.high, n=interval.n, method=interval.method
    )


def cost_of(entries: Sequence[TaskResult]) -> Cost:
    """What cells cost together.

    Args:
        entries: The cells.
    """
    return Cost(
        forwards=sum(e.evidence.forwards for e in entries), backwards=sum(e.evidence.backwards for e in entries)
    )
