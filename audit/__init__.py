"""`audit`: what does an image classifier look at, how easily is it fooled, can it be made harder to fool?

    model = audit.wrap(module, classes=names, input_shape=(3, 32, 32), mean=..., std=...)
    robustness = audit.robustness(model, images, labels, audit.ThreatModel("linf", 8 / 255))
    broken = audit.attack(model, images, labels, threat, method="apgd-ce").broken
    maps = audit.explain(model, images, method="integrated-gradients")
    verdicts = audit.evaluate_attributions(model, images, maps.attributions).verdicts
    result = audit.run("audit.toml")

Everything heavy is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.api.attacking import AdversarialExamples as AdversarialExamples
    from audit.api.attacking import attack_images as attack  # noqa: F401
    from audit.api.certification import Certification as Certification
    from audit.api.certification import certify as certify
    from audit.api.corrupting import CorruptedImages as CorruptedImages
    from audit.api.corrupting import corrupt as corrupt
    from audit.api.explanation import explain as explain
    from audit.api.inputs import wrap as wrap
    from audit.api.judging import EvaluatedAttributions as EvaluatedAttributions
    from audit.api.judging import evaluate_attributions as evaluate_attributions
    from audit.api.maite import MaiteData as MaiteData
    from audit.api.maite import MaiteModel as MaiteModel
    from audit.api.maite import as_maite as as_maite
    from audit.api.maite import from_maite as from_maite
    from audit.api.robustness import Robustness as Robustness
    from audit.api.robustness import RobustnessCurve as RobustnessCurve
    from audit.api.robustness import robustness as robustness
    from audit.api.robustness import robustness_curve as robustness_curve
    from audit.api.running import AuditResult as AuditResult
    from audit.api.running import run as run
    from audit.api.running_metrics import AttributionMetrics as AttributionMetrics
    from audit.api.running_metrics import RobustAccuracyMetric as RobustAccuracyMetric
    from audit.api.slicing import WeakSlice as WeakSlice
    from audit.api.slicing import WeakSlices as WeakSlices
    from audit.api.slicing import find_weak_slices as find_weak_slices
    from audit.api.training import TrainedModel as TrainedModel
    from audit.api.training import harden as harden
    from audit.api.training import train as train
    from audit.config import RunConfig as RunConfig
    from audit.core.errors import AuditError as AuditError
    from audit.core.threat import ThreatModel as ThreatModel
    from audit.core.types import PassCount as PassCount
    from audit.explanation.run import AttributionResult as AttributionResult
    from audit.models.under_test import ModelUnderTest as ModelUnderTest

_SOURCES = {
    "audit.api.attacking": ("AdversarialExamples", "attack_images attack"),
    "audit.api.certification": ("Certification", "certify"),
    "audit.api.corrupting": ("CorruptedImages", "corrupt"),
    "audit.api.explanation": ("explain",),
    "audit.api.inputs": ("wrap",),
    "audit.api.judging": ("EvaluatedAttributions", "evaluate_attributions"),
    "audit.api.maite": ("MaiteData", "MaiteModel", "as_maite", "from_maite"),
    "audit.api.robustness": ("Robustness", "RobustnessCurve", "robustness", "robustness_curve"),
    "audit.api.running": ("AuditResult", "run"),
    "audit.api.running_metrics": ("AttributionMetrics", "RobustAccuracyMetric"),
    "audit.api.slicing": ("WeakSlice", "WeakSlices", "find_weak_slices"),
    "audit.api.training": ("TrainedModel", "harden", "train"),
    "audit.config": ("RunConfig",),
    "audit.core.errors": ("AuditError",),
    "audit.core.threat": ("ThreatModel",),
    "audit.core.types": ("PassCount",),
    "audit.explanation.run": ("AttributionResult",),
    "audit.models.under_test": ("ModelUnderTest",),
}
_EXPORTS = {name.split()[-1]: (source, name.split()[0]) for source, names in _SOURCES.items() for name in names}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'audit' has no attribute {name!r}; it has {', '.join(__all__)}")
    source, attribute = _EXPORTS[name]
    value = getattr(importlib.import_module(source), attribute)
    if name.islower():  # a function: what it is given comes from outside
        value = importlib.import_module("audit.api.arguments").checked(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
