"""Saliency: the gradient of the explained output."""

from __future__ import annotations

from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.captum_guard import restored
from audit.explanation.gradients import in_leaf_batches
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1312.6034",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(1, 1),
    wraps="captum",
)
def saliency(model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, absolute: bool = False) -> Attribution:
    """The gradient of the output to each pixel: where a small change matters, not what was used.

    The map is (N, C, H, W), in units of the output a pixel range.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        absolute: Drop the sign (the paper's form).
    """
    from captum.attr import Saliency

    method = Saliency(Scored(model, spec.output))

    def gradient(leaf: Images, rows: slice) -> Tensor:
        return method.attribute(leaf, target=spec.targets[rows], abs=absolute)  # type: ignore[no-any-return]

    with restored(model):
        return Attribution(in_leaf_batches(model, images, gradient))
