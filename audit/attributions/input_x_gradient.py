"""Input times gradient."""

from __future__ import annotations

from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import borrowed, by_batches
from audit.models.under_test import ModelUnderTest
from audit.passes.scores import Scored
from audit.registry import attribution
from audit.types import Images


@attribution(reference="arXiv:1605.01713", needs="gradients", signed=True, wraps="captum")
def input_x_gradient(model: ModelUnderTest, images: Images, explained: Explained) -> Explanation:
    """The gradient times the pixel in [0, 1]: a first-order guess at what black would take away. Units: output."""
    from captum.attr import InputXGradient

    method = InputXGradient(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part])  # type: ignore[no-any-return]

    with borrowed(model):
        return Explanation(by_batches(model, images, one))
