"""Training of a detector on clean images."""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.detection import DetectionModule
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(reference="", adversarial=False, task="detection", passes=lambda settings, shape: PassCount(1, 1))
def detector(net: DetectionModule, step: TrainingStep) -> Iterator[Objective]:
    """Descend a detector's own losses on clean images.

    Args:
        net: The detector.
        step: The batch.

    Yields:
        One objective.
    """
    yield lambda: StepOutput(net.losses(step.images, step.objects).mean())
