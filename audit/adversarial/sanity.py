"""Does the evidence hold? Controls run beside a battery, and the reasons they give to call it inconclusive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from audit.adversarial.eot import EOT_SAMPLES
from audit.adversarial.gradient_diagnostics import gradient_health
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.result import AttackResult
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

SAMPLE = 64
"""Examples the controls look at."""

ZERO_SHARE = 0.05
"""Share of gradients without information above which gradient attacks are called blind."""

FRAGILE = 0.01
"""Share of verdicts that turn when a random model is asked again, above which none of them is believed."""


@dataclass(frozen=True)
class SanityReport:
    """What the controls saw, on a sample of correctly classified examples.

    `wobble` is the largest change of a logit on a second forward, over the logits' spread, and `fragile` the share of
    verdicts by the mean of many forwards that turn when asked again; `unbreakable` the share that a perturbation large
    enough to paint any image grey did not break, with its `chance` level.
    """

    size: int
    health: dict[str, float] = field(default_factory=dict)
    blind: str = ""
    wobble: float = 0.0
    fragile: float = 0.0
    unbreakable: float = 0.0
    chance: float = 0.0


def run_sanity_checks(
    model: ModelUnderTest, batch: Batch, norm: Norm, seed: int, unsteady: float = 0.0
) -> SanityReport:
    """Run the controls on the first examples that are not broken to begin with; `unsteady` is the model's wobble."""
    sample = batch.select(torch.arange(min(len(batch), 4 * SAMPLE), device=batch.labels.device))
    sample = sample.select((~is_adversarial(model, sample, sample.images)).nonzero().flatten()[:SAMPLE])
    if len(sample) == 0:
        return SanityReport(0, wobble=unsteady)
    health = gradient_health(model, sample)
    unbreakable = 0.0 if health.missing else _unbreakable(model, sample, norm, seed)
    return SanityReport(
        len(sample),
        health.shares(),
        health.missing,
        unsteady,
        unbreakable=unbreakable,
        chance=_chance(model, sample),
    )


def weak_evidence_reasons(examination: SanityReport, rows: Sequence[AttackResult], total: int) -> tuple[str, ...]:
    """Why robustness seen here would be weak evidence, one sentence each; empty when it holds."""
    return tuple(
        sentence
        for sentence in (
            examination.blind,
            *_blindness(examination.health),
            _randomness(examination),
            _too_tough(examination),
            *_beaten(rows, total),
        )
        if sentence
    )


def full_box_threat(norm: Norm, size: int) -> ThreatModel:
    """A threat model that reaches the grey image from anywhere; `size` is the number of pixel values."""
    return ThreatModel(norm, {"linf": 0.5, "l2": 0.5 * math.sqrt(size), "l1": 0.5 * size}[norm])


def _unbreakable(model: ModelUnderTest, sample: Batch, norm: Norm, seed: int) -> float:
    threat = full_box_threat(norm, math.prod(model.input_shape))
    draws = Generators.of(sample.ids, seed=seed, purpose="control: the whole box", device="cpu")
    pgd = find("attack", "pgd").function
    proposals = pgd(model, sample, threat, draws, steps=20, relative_step=0.15, restarts=2, loss="margin")
    return float((~is_adversarial(model, sample, proposals)).double().mean())


def _chance(model: ModelUnderTest, sample: Batch) -> float:
    """The share a constant prediction would leave unbroken, and three standard errors more."""
    share = float((~sample.violations(len(model.classes))).double().mean())
    return share + 3 * math.sqrt(share * (1 - share) / len(sample))


def _blindness(health: dict[str, float]) -> list[str]:
    named = {"ce": "cross-entropy", "margin": "the margin"}
    return [
        f"{health[f'{loss}_{kind}']:.0%} of the gradients of {title} are {word}: attacks that follow them see nothing."
        for loss, title in named.items()
        for kind, word in (("zero", "zero"), ("nan", "not finite"))
        if health.get(f"{loss}_{kind}", 0.0) > ZERO_SHARE
    ]


def _randomness(seen: SanityReport) -> str:
    if seen.fragile <= FRAGILE:
        return ""
    return (
        f"The model gives different logits for the same image (by {seen.wobble:.1%} of their spread), and even the "
        f"mean of {EOT_SAMPLES} forwards decides otherwise when asked again on {seen.fragile:.0%} of the images."
    )


def _too_tough(seen: SanityReport) -> str:
    if seen.size == 0 or seen.unbreakable <= seen.chance:
        return ""
    return (
        f"PGD allowed to paint any image grey leaves {seen.unbreakable:.0%} unbroken, where a constant prediction "
        f"would leave at most {seen.chance:.0%}: the attack is failing, not the model resisting."
    )


def _beaten(rows: Sequence[AttackResult], total: int) -> list[str]:
    """Attacks that see no gradient and yet break what every gradient attack before them left."""
    guided = any(row.needs == "gradients" and row.tried for row in rows)
    sentences = []
    for row in rows:
        if not guided or row.needs == "gradients" or not row.tried:
            continue
        points = 100 * row.broke / row.tried * row.survivors / total
        if row.broke >= 2 and points > 0.2:
            sentences.append(
                f"{row.name}, which sees no gradient, broke {row.broke} of {row.tried} images that the gradient "
                f"attacks had left (about {points:.1f} points of accuracy): the gradients mislead."
            )
    return sentences
