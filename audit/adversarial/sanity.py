"""Controls that run beside a battery, and the red flags they raise when its evidence is weak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from audit.adversarial.eot import EOT_SAMPLES
from audit.adversarial.gradient_diagnostics import gradient_health
from audit.adversarial.red_flags import RedFlag, flag_if_above
from audit.adversarial.restarts import is_adversarial
from audit.core.note import NO_NOTE, Note
from audit.core.precise import precise
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest

SAMPLE = 64
"""Examples the controls look at."""
IMAGES_EXAMINED = 4 * SAMPLE
"""The first examples, among which those are looked for: classified right."""
FEW = 8
"""Examples that show whether a model is random, or without gradients, where the controls have run before."""


@dataclass(frozen=True)
class SanityReport:
    """What the controls measured, on a sample of correctly classified examples.

    Attributes:
        size: Examples in the sample.
        health: Shares of gradients without information, by name (see `GradientHealth.shares`).
        no_gradient_reason: Why there is no gradient at all, empty where there is one.
        logit_noise: Largest change of a logit on a second forward, over the logits' spread.
        flip_rate: Share of verdicts, by the mean of many forwards, that turn when the model is asked again.
        unbroken: Share that a perturbation large enough to paint any image grey did not break.
        chance: The largest such share that is no failure: what painting the images grey would leave.
    """

    size: int
    health: dict[str, float] = field(default_factory=dict)
    no_gradient_reason: Note = NO_NOTE
    logit_noise: float = 0.0
    flip_rate: float = 0.0
    unbroken: float = 0.0
    chance: float = 0.0


def run_sanity_checks(
    model: ModelUnderTest, batch: Batch, norm: Norm, seed: int, logit_noise: float = 0.0
) -> SanityReport:
    """Run the controls on the first examples that are classified correctly.

    Args:
        model: The model under attack.
        batch: The examples of the battery.
        norm: The norm of the battery.
        seed: Root of the random draws.
        logit_noise: What `audit.adversarial.eot.logit_noise` measured.
    """
    sample = batch.select(torch.arange(min(len(batch), IMAGES_EXAMINED), device=batch.labels.device))
    sample = sample.select((~is_adversarial(model, sample, sample.images)).nonzero().flatten()[:SAMPLE])
    if len(sample) == 0:
        return SanityReport(0, logit_noise=logit_noise)
    health = gradient_health(model, sample)
    unbroken = 0.0 if health.no_gradient_reason else _unbroken_in_grey_box(model, sample, norm, seed)
    return SanityReport(
        len(sample),
        health.shares(),
        health.no_gradient_reason,
        logit_noise,
        unbroken=unbroken,
        chance=_left_by_grey(model, sample),
    )


def without_checks(model: ModelUnderTest, batch: Batch, logit_noise: float) -> SanityReport:
    """What a battery must know of a model whose controls have run before: its noise, and whether it has a gradient.

    Args:
        model: The model under attack.
        batch: The examples of the battery.
        logit_noise: What `audit.adversarial.eot.logit_noise` measured.
    """
    few = batch.select(torch.arange(FEW, device=batch.labels.device)[: len(batch)])
    return SanityReport(0, logit_noise=logit_noise, no_gradient_reason=gradient_health(model, few).no_gradient_reason)


def sanity_report(
    model: ModelUnderTest, batch: Batch, norm: Norm, seed: int, logit_noise: float, *, sanity_checks: bool
) -> SanityReport:
    """What a battery must know of a model before its attacks, with the controls where they are wanted.

    Args:
        model: The model under attack.
        batch: The examples of the battery, or the first `IMAGES_EXAMINED` of them.
        norm: The norm of the battery.
        seed: Root of the random draws.
        logit_noise: What `audit.adversarial.eot.logit_noise` measured.
        sanity_checks: Whether to run the controls.
    """
    if sanity_checks:
        return run_sanity_checks(model, batch, norm, seed, logit_noise)
    return without_checks(model, batch, logit_noise)


def images_for_noise(batch: Batch, *, sanity_checks: bool) -> Images:
    """The images on which a model shows whether it answers at random.

    Args:
        batch: The examples of the battery.
        sanity_checks: Whether the controls run too.
    """
    return batch.images[: SAMPLE if sanity_checks else FEW]


def model_red_flags(report: SanityReport, *, iterative: bool = True) -> tuple[RedFlag, ...]:
    """Why the robustness that a battery reports would be weak evidence whatever its attacks did; empty when it holds.

    Args:
        report: What the controls measured.
        iterative: Whether an attack of the battery follows gradients over several steps.
    """
    flags = [
        RedFlag("missing_gradient", 1, 0, report.no_gradient_reason) if report.no_gradient_reason else None,
        *_blindness(report.health),
        flag_if_above("turned_verdicts", report.flip_rate, wobble=f"{report.logit_noise:.1%}", draws=EOT_SAMPLES),
        _too_robust(report),
        flag_if_above("no_iterative_gradient_attack", float(not iterative)),
    ]
    return tuple(flag for flag in flags if flag is not None)


def full_box_threat(norm: Norm, size: int, fraction: float = 1.0) -> ThreatModel:
    """A threat model that covers the whole box, or a part of it.

    Args:
        norm: The norm of the ball.
        size: The number of pixel values of an image, C x H x W.
        fraction: How far each value may move, in [0, 1]: 1 turns any image into any other, 0.5 paints any image grey.
    """
    if norm == "l0":  # No gradient step exists in its ball: the control moves every value instead.
        return ThreatModel("linf", fraction)
    return ThreatModel(norm, {"linf": fraction, "l2": fraction * math.sqrt(size), "l1": fraction * size}[norm])


def _unbroken_in_grey_box(model: ModelUnderTest, sample: Batch, norm: Norm, seed: int) -> float:
    threat = full_box_threat(norm, math.prod(model.input_shape), fraction=0.5)
    draws = Generators.of(sample.ids, seed=seed, purpose="control: the whole box", device="cpu")
    pgd = find("attack", "pgd").function
    proposals = pgd(model, sample, threat, draws, steps=20, relative_step=0.15, restarts=2, loss="margin")
    return float(precise(~is_adversarial(model, sample, proposals)).mean())


def _left_by_grey(model: ModelUnderTest, sample: Batch) -> float:
    """The share that a grey image in the place of each would leave unbroken, and three standard errors more.

    It is one prediction for all, so it is large where most labels are of that class.
    """
    (grey,) = model.predictions(torch.full_like(sample.images[:1], 0.5)).tolist()
    share = float(precise(~sample.target_mask(len(model.classes))[:, grey]).mean())
    return share + 3 * math.sqrt(share * (1 - share) / len(sample))


def _blindness(health: dict[str, float]) -> Iterator[RedFlag | None]:
    titles = {"ce": "cross-entropy", "margin": "the margin"}
    for loss, title in titles.items():
        for kind, word in (("zero", "zero"), ("nan", "not finite")):
            share = health.get(f"{loss}_{kind}", 0.0)
            yield flag_if_above(f"battery_{loss}_{kind}", share, title=[title], word=[word])


def _too_robust(report: SanityReport) -> RedFlag | None:
    if report.size == 0:
        return None
    chance = report.chance
    return flag_if_above("unbroken_in_grey_box", report.unbroken, limit=chance, chance=f"{chance:.0%}")
