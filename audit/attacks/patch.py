"""A patch that fools on whatever image it is put."""

from __future__ import annotations

from audit.attacks.patch_threat import PatchThreat
from audit.attacks.shared_ascent import Ascent, ascend
from audit.attacks.steps import Count, Positive
from audit.models.under_test import ModelUnderTest
from audit.passes.losses import LossName, loss_named
from audit.registry import attack
from audit.seeding import Generators
from audit.types import Batch, Images


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
    steps: Count = 150,
    images_a_step: Count = 64,
    rate: Positive = 0.1,
    decay: Positive = 0.9,
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

    ascent = Ascent(steps, images_a_step, decay, loss_named(loss, len(model.classes)))
    return ascend(model, batch, generators, first, ascent=ascent, apply=threat.painted, move=move)
