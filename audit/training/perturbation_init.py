"""Where the adversary of a lesson sets out from: a random point of the ball, or where it last left each image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.core.types import Images
from audit.training.step import TrainingStep

Start = Literal["random", "previous"]

_KEPT = "perturbations"


def initial_perturbation(lesson: TrainingStep, start: Start) -> Images:
    """A point of the ball around each image of the lesson.

    `previous`: where `remember` left the same image the last time, so that single steps add up over the epochs (Zheng
    et al. 2020, arXiv:1912.11969; Jia et al. 2022, arXiv:2207.08859); random for an image not seen before.
    """
    drawn = lesson.adversary.random_start(lesson.images, lesson.generators)
    if start == "random" or _KEPT not in lesson.memory:
        return drawn
    last = lesson.memory[_KEPT][lesson.positions.to(lesson.memory[_KEPT].device)].to(drawn)
    known = ~last.isnan().flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.where(known, lesson.adversary.project(lesson.images + last, lesson.images), drawn)


def store_perturbation(lesson: TrainingStep, start: Start, adversarial: Images) -> None:
    """Keep the perturbations for the next time, float16 (total, C, H, W): half of what the images themselves take."""
    if start == "random":
        return
    if _KEPT not in lesson.memory:
        lesson.memory[_KEPT] = _none_yet(lesson)
    kept = lesson.memory[_KEPT]
    kept[lesson.positions.to(kept.device)] = (adversarial - lesson.images).to(kept)


def _none_yet(lesson: TrainingStep) -> Tensor:
    shape = (lesson.total, *lesson.images.shape[1:])
    return torch.full(shape, torch.nan, dtype=torch.float16, device=lesson.images.device)
