"""Saliency: the gradient of the explained output."""

from __future__ import annotations

from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import borrowed, by_batches
from audit.models.under_test import ModelUnderTest
from audit.passes.scores import Scored
from audit.registry import attribution
from audit.types import Images


@attribution(reference="arXiv:1312.6034", needs="gradients", signed=True, wraps="captum")
def saliency(model: ModelUnderTest, images: Images, explained: Explained, *, absolute: bool = False) -> Explanation:
    """The gradient of the output to each pixel: where a small change matters, not what was used.

    `absolute` drops the sign (the paper's form). Units: output a pixel range.
    """
    from captum.attr import Saliency

    method = Saliency(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part], abs=absolute)  # type: ignore[no-any-return]

    with borrowed(model):
        return Explanation(by_batches(model, images, one))
