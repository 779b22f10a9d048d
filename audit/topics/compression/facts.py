"""What the compression study measures besides the weights."""

from __future__ import annotations

from pydantic import ConfigDict

from audit.document.model import DocumentModel
from audit.results.facts import ModelFacts


class SizePart(DocumentModel):
    """The size of a model.

    Attributes:
        parameters: Number of weights.
        nonzero: Number of weights that are not zero.
        bytes: Size of the weights as stored.
        compressed_bytes: That size after zlib compression.
    """

    parameters: int
    nonzero: int
    bytes: int
    compressed_bytes: int


class Int8Facts(DocumentModel):
    """How int8 inference was computed.

    Attributes:
        engine: What computes in integers; empty where nothing does.
        calibrated: Number of training images that ranges were measured on; 0 for weights alone.
        in_float: Layers, or operators, with weights that compute in floating point.
    """

    engine: str
    calibrated: int
    in_float: list[str]


class CompressionFacts(ModelFacts):
    """A smaller model made in the run.

    Attributes:
        parent: Size of the model it was made from.
        variant: Its own size.
        spared: Hidden layers that channel pruning left whole.
        int8: How int8 was computed; None for other methods.
    """

    model_config = ConfigDict(extra="forbid")

    parent: SizePart
    variant: SizePart
    spared: tuple[str, ...] = ()
    int8: Int8Facts | None = None
