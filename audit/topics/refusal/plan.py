"""The cells that ask a model of usual, corrupted, foreign and attacked images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.core.types import PassCount
from audit.metrics.foreign_images import FOREIGN_KINDS
from audit.planning.builder import ModelRef, PlanBuilder, select_methods
from audit.planning.plan import CALIBRATION_SPLIT, Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.refusal.config import RefusalConfig
from audit.topics.refusal.facts import ATTACKED, CLEAN, CORRUPTED, FOREIGN, REFERENCE, SHIFT_SEVERITIES, RefusalSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """What features are usual, then how strange the images of each kind are.

    There are as many foreign images as a cell has examples, which it does not read. Attacked images are those that the
    run's first cell of attacks kept. Without training images, what is usual is read from test images that are not
    judged.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config, identity = builder.config.table(RefusalConfig), builder.identity
    if not config.examples or not identity.labelled:
        return
    usual = _usual(config, identity)
    if not len(usual):
        return
    reference = builder.add("refusal", REFERENCE, model, usual)
    inputs = {"reference": reference}

    def ask(method: str, examples: Slice, settings: Mapping[str, Any], **further: Any) -> None:
        given = {**inputs, **further.pop("inputs", {})}
        builder.add("refusal", method, model, examples, settings=settings, inputs=given, **further)

    (clean,) = builder.chunks(config.examples, config.examples)
    ask(CLEAN, clean, {})
    (shifted,) = builder.chunks(config.shifted, config.shifted)
    for method in select_methods("corruption", builder.config.corruptions.names):
        settings = RefusalSettings(corruption=method.name)
        ask(CORRUPTED, shifted, settings.dump(), version=method.full_version)
    for kind in FOREIGN_KINDS:
        if not builder.config.data.source.startswith(kind):
            ask(FOREIGN, shifted, RefusalSettings(kind=kind, count=len(shifted)).dump())
    if identity.foreign:
        settings = RefusalSettings(kind="own", count=len(clean), source=identity.foreign)
        ask(FOREIGN, clean, settings.dump(), context={"source": config.foreign})
    if attacked := builder.planned("robustness", model.role):
        first = attacked[0]
        ask(ATTACKED, first.examples, {}, inputs={"robustness": first})


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward an image and severity.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(len(SHIFT_SEVERITIES) if task.cell.method == CORRUPTED else 1, 0)


def _usual(config: RefusalConfig, identity: RunIdentity) -> Slice:
    if identity.train_examples:
        return Slice(CALIBRATION_SPLIT, 0, min(config.reference, identity.train_examples))
    stop = min(config.examples + config.reference, identity.test_examples)
    return Slice("test", min(config.examples, stop), stop)
