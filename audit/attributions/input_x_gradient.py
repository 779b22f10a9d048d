"""Input times gradient."""

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
    reference="arXiv:1605.01713",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(1, 1),
    wraps="captum",
)
def input_x_gradient(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Attribution:
    """The gradient times the pixel in [0, 1]: a first-order guess at what black would take away. Units: output.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
    """
    from captum.attr import InputXGradient

    method = InputXGradient(Scored(model, spec.output))

    def product(leaf: Images, rows: slice) -> Tensor:
        return method.attribute(leaf, target=spec.targets[rows])  # type: ignore[no-any-return]

    with restored(model):
        return Attribution(in_leaf_batches(model, images, product))
