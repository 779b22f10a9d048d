"""A patch that fools on whatever image it is put."""

from __future__ import annotations

from audit.adversarial.gradient_step import PositiveFloat, PositiveInt
from audit.adversarial.patch_threat import PatchThreat
from audit.adversarial.universal_ascent import AscentSettings, mean_gradient_ascent
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.losses import LossName, loss_named
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1712.09665",
    needs="gradients",
    norms=(),
    threat="one patch for every image, in a square of known place",
)
def patch(
    model: ModelUnderTest,
    batch: Batch,
    threat: PatchThreat,
    generators: Generators,
    *,
    steps: PositiveInt = 150,
    images_a_step: PositiveInt = 64,
    rate: PositiveFloat = 0.1,
    decay: PositiveFloat = 0.9,
    loss: LossName = "ce",
) -> Images:
    """One patch, made on `batch` by ascent on its images' capped loss (Brown et al. 2017, at a known place).

    Gives the paint, float32 (1, C, H, W) in [0, 1], of which the threat's square counts; it begins at random. Towards
    one class where the batch's goal is that class. Put it on images it was not made on and count what breaks. Costs
    steps x images_a_step passes each way.
    """
    inside = threat.inside(batch.images[:1]).to(model.device)
    own = Generators(generators.keys.sum().view(1).to(model.device))
    first = own.uniform(*model.input_shape) * inside

    def move(paint: Images, direction: Images, pace: float) -> Images:
        return (paint + rate * pace * direction.sign() * inside).clamp(0, 1)

    ascent = AscentSettings(steps, images_a_step, decay, loss_named(loss, len(model.classes)))
    return mean_gradient_ascent(model, batch, generators, first, ascent=ascent, apply=threat.painted, move=move)
