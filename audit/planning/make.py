"""The plan of a whole run."""

from __future__ import annotations

from typing import Literal

from audit.config import RunConfig
from audit.plan import AuditPlan, Slice, Task
from audit.planning.draft import Draft, Model
from audit.planning.evaluation import (
    plan_accuracy,
    plan_attack_controls,
    plan_backdoor,
    plan_certificates,
    plan_corruptions,
    plan_robustness,
    plan_sanity,
)
from audit.planning.explaining import plan_drift_between, plan_explanations
from audit.planning.subject import Subject, curve_eps
from audit.planning.training import plan_training
from audit.threat import ThreatModel

Scope = Literal["train", "audit"]


def make_plan(config: RunConfig, subject: Subject, scope: Scope = "audit") -> AuditPlan:
    """Every task of a run. Raises UsageError for an unknown method, a wrong setting or a wrong eps."""
    for eps in curve_eps(config, subject):
        ThreatModel(config.robustness.norm, eps)
    draft = Draft(config, subject)
    standard = Model("standard", subject.loaded or "")
    if subject.loaded is None:
        standard = plan_training(draft, "standard", config.training)
    plan_accuracy(draft, standard)
    if scope == "audit":
        _plan_audits(draft, standard)
    return AuditPlan(tuple(draft.tasks))


def _plan_audits(draft: Draft, standard: Model) -> None:
    before = _plan_audit(draft, standard)
    if draft.config.hardening.enabled:
        hardened = plan_training(draft, "hardened", draft.config.hardening, standard)
        plan_accuracy(draft, hardened)
        plan_drift_between(draft, hardened, before, _plan_audit(draft, hardened))
    if draft.config.explanations.calibration:
        draft.add("calibration-of-the-tool", "oracles", Model("standard", ""), Slice("test", 0, 0))


def _plan_audit(draft: Draft, model: Model) -> dict[str, Task]:
    plan_sanity(draft, model)
    robust = plan_robustness(draft, model)
    plan_attack_controls(draft, model, robust)
    plan_certificates(draft, model)
    plan_backdoor(draft, model)
    plan_corruptions(draft, model)
    return plan_explanations(draft, model, robust)
