"""`audit`: what does an image classifier look at, how easily is it fooled, can it be made harder to fool?

    model = audit.wrap(module, classes=names, input_shape=(3, 32, 32), mean=..., std=...)
    evidence = audit.robustness(model, images, labels, audit.ThreatModel("linf", 8 / 255))
    maps = audit.explain(model, images, method="integrated-gradients")
    outcome = audit.run("audit.toml")

Everything heavy is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.api.explaining import explain
    from audit.api.inputs import wrap
    from audit.api.robustness import Robustness, RobustnessCurve, robustness, robustness_curve
    from audit.api.running import AuditResult, run
    from audit.api.training import TrainedModel, harden, train
    from audit.config import RunConfig
    from audit.core.errors import AuditError
    from audit.core.threat import ThreatModel
    from audit.core.types import PassCount
    from audit.explanation.run import AttributionResult
    from audit.models.under_test import ModelUnderTest

_HOMES = {
    "AuditError": "audit.core.errors",
    "AuditResult": "audit.api.running",
    "AttributionResult": "audit.explanation.run",
    "ModelUnderTest": "audit.models.under_test",
    "PassCount": "audit.core.types",
    "Robustness": "audit.api.robustness",
    "RobustnessCurve": "audit.api.robustness",
    "RunConfig": "audit.config",
    "ThreatModel": "audit.core.threat",
    "TrainedModel": "audit.api.training",
    "explain": "audit.api.explaining",
    "harden": "audit.api.training",
    "robustness": "audit.api.robustness",
    "robustness_curve": "audit.api.robustness",
    "run": "audit.api.running",
    "train": "audit.api.training",
    "wrap": "audit.api.inputs",
}

__all__ = [
    "AttributionResult",
    "AuditError",
    "AuditResult",
    "ModelUnderTest",
    "PassCount",
    "Robustness",
    "RobustnessCurve",
    "RunConfig",
    "ThreatModel",
    "TrainedModel",
    "explain",
    "harden",
    "robustness",
    "robustness_curve",
    "run",
    "train",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'audit' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
