"""Saliency: the gradient of the explained output."""

from __future__ import annotations

from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.captum_guard import in_leaf_batches, restored
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1312.6034", needs="gradients", signed=True, wraps="captum")
def saliency(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, absolute: bool = False
) -> Attribution:
    """The gradient of the output to each pixel: where a small change matters, not what was used.

    `absolute` drops the sign (the paper's form). Units: output a pixel range.
    """
    from captum.attr import Saliency

    method = Saliency(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part], abs=absolute)  # type: ignore[no-any-return]

    with restored(model):
        return Attribution(in_leaf_batches(model, images, one))
