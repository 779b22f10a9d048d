"""How far another runtime may move a margin, where it computes the same net with the same type of number.

Sums of floating-point numbers depend on their order, and kernels differ in it: those of a batch and of one image, of
two sets of instructions, of an exported file. A verdict whose margin is smaller than that is the runtime's as much as
the model's.
"""

from __future__ import annotations

import torch

from audit.core.errors import ModelError
from audit.core.types import Images
from audit.models.under_test import ModelUnderTest

ASKED = 8
"""Images that are asked in a batch and alone."""
ROUNDINGS = 8
"""Of the largest logit, in units of the type's rounding (2^-23 in float32): what runtimes of the matrix in
samples/benchmarks.md differ by at most, whatever the images asked here show."""


def runtime_rounding(model: ModelUnderTest, images: Images) -> float | None:
    """How far the margin of an image may move in another runtime of the same net, in logits.

    Twice the largest difference of a logit, as a margin is the difference of two: between each image in a batch and
    alone, but at least `ROUNDINGS` roundings of the largest logit.

    Args:
        model: The model.
        images: Float32 (N, C, H, W) in [0, 1]; the first `ASKED` are asked twice.

    Returns:
        None where a margin has no such bound: the model draws random numbers, does not answer an image alone, or is
        answered by a runtime of its own (as int8 files are, whose runtimes differ by whole steps of their grids).
    """
    few = images[:ASKED]
    if model.runtime is not None or model.module.draws > 1 or len(few) == 0:
        return None
    together = model.logits(few)
    try:
        alone = torch.cat([model.logits(few[i : i + 1]) for i in range(len(few))])
    except ModelError:
        return None
    smallest = ROUNDINGS * torch.finfo(model.module.input_type).eps * float(together.abs().max())
    return 2 * max(float((together - alone).abs().max()), smallest)
