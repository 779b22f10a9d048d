"""What the compression study measures besides the weights."""

from __future__ import annotations

from pydantic import ConfigDict

from audit.document.model import DocumentModel
from audit.results.facts import ModelFacts


class SizePart(DocumentModel):
    """The size of a model.

    Attributes:
        parameters: Number of weights.
        nonzero: Those of them that are not zero.
        bytes: Bytes of the weights as stored.
        compressed_bytes: Those bytes after zlib.
    """

    parameters: int
    nonzero: int
    bytes: int
    compressed_bytes: int


class Int8Facts(DocumentModel):
    """How int8 was computed.

    Attributes:
        engine: Whose integer kernels ran, empty where this machine has none.
        calibrated: Training images that set the ranges of the inputs; 0 for weights alone.
        in_float: Layers with weights that stay in floating point.
    """

    engine: str
    calibrated: int
    in_float: list[str]


class CompressionFacts(ModelFacts):
    """A smaller model made here.

    Attributes:
        parent: Size of the model it was made of.
        variant: Its own size.
        spared: Hidden layers left whole by pruning of channels.
        int8: How int8 was computed; None for other methods.
    """

    model_config = ConfigDict(extra="forbid")

    parent: SizePart
    variant: SizePart
    spared: tuple[str, ...] = ()
    int8: Int8Facts | None = None
