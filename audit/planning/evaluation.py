"""The cells that ask how often a model is right: on clean, on attacked and on corrupted images."""

from __future__ import annotations

from audit.core.registry import find
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder, select_methods
from audit.planning.plan import PREDICTED_LABELS, Task
from audit.planning.run_identity import curve_eps, headline_eps

CERTIFICATES = ("interval-bounds", "smoothing")
SANE = 64
"""Examples on which the model is looked at before an attack on it is believed."""


def plan_accuracy(draft: PlanBuilder, model: ModelRef) -> None:
    """Clean accuracy on every test image."""
    for part in draft.chunks(draft.subject.test_examples, 10 * EXAMPLES_PER_CELL):
        draft.add("accuracy", "clean", model, part, context={} if draft.subject.labelled else {PREDICTED_LABELS: True})


def plan_sanity(draft: PlanBuilder, model: ModelRef) -> None:
    """Whether the model can be evaluated at all."""
    (part,) = draft.chunks(min(SANE, draft.config.robustness.examples), SANE)
    draft.add("sanity", "honest-evaluation", model, part)


def plan_robustness(draft: PlanBuilder, model: ModelRef, surrogate: Task | None = None) -> Task:
    """The battery over the curve, in chunks of examples; the first chunk keeps the images that are explained.

    A battery that transfers attacks is given the surrogate.
    """
    config = draft.config.robustness
    headline = headline_eps(draft.config, draft.subject)
    tasks = [
        draft.add(
            "robustness",
            draft.battery.name,
            model,
            part,
            settings={
                "eps": list(curve_eps(draft.config, draft.subject)),
                "headline": headline,
                "kept": max(0, min(part.stop, draft.shown.stop) - part.start),
                "protocol": draft.battery.describe(),
            },
            threat={"norm": config.norm, "eps": headline},
            inputs={"surrogate": surrogate} if surrogate and draft.battery.wants_surrogate else {},
        )
        for part in draft.chunks(config.examples)
    ]
    return tasks[0]


def plan_attack_controls(draft: PlanBuilder, model: ModelRef, attacked: Task) -> None:
    """What holds the attacks themselves to account, on the first of the examples they were run on."""
    config = draft.config.robustness
    for part in draft.chunks(min(config.control_examples, len(attacked.examples)), EXAMPLES_PER_CELL):
        draft.add(
            "attack-controls",
            draft.battery.name,
            model,
            part,
            settings={
                "eps": list(curve_eps(draft.config, draft.subject)),
                "pgd": find("attack", "pgd").full_version,
                "protocol": draft.battery.describe(),
            },
            threat=attacked.cell.threat,
            inputs={"robustness": attacked},
        )


def plan_certificates(draft: PlanBuilder, model: ModelRef) -> None:
    """Radii within which nothing can break an image: of the model itself, and of its smoothed version."""
    for name in CERTIFICATES:
        method = find("metric", name)
        for part in draft.chunks(draft.config.robustness.certified_examples):
            draft.add("certification", name, model, part, settings=method.settings(), version=method.full_version)


def plan_backdoor(draft: PlanBuilder, model: ModelRef) -> None:
    """The search for a planted trigger, in one piece: half of the images to search with, half to score on."""
    if examples := draft.config.robustness.backdoor_examples:
        (part,) = draft.chunks(examples, examples)
        method = find("metric", "smallest-triggers")
        draft.add("backdoor", method.name, model, part, settings=method.settings(), version=method.full_version)


def plan_corruptions(draft: PlanBuilder, model: ModelRef) -> None:
    """Each corruption at each severity."""
    config = draft.config.corruptions
    for method in select_methods("corruption", config.names):
        for severity in config.severities:
            for part in draft.chunks(config.examples, 4 * EXAMPLES_PER_CELL):
                settings = {"severity": severity}
                draft.add("corruption", method.name, model, part, settings=settings, version=method.full_version)
