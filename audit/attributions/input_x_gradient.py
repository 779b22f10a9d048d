"""Input times gradient."""

from __future__ import annotations

from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.captum_guard import in_leaf_batches, restored
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1605.01713", needs="gradients", signed=True, wraps="captum")
def input_x_gradient(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Attribution:
    """The gradient times the pixel in [0, 1]: a first-order guess at what black would take away. Units: output."""
    from captum.attr import InputXGradient

    method = InputXGradient(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part])  # type: ignore[no-any-return]

    with restored(model):
        return Attribution(in_leaf_batches(model, images, one))
