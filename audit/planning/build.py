"""The plan of a whole run."""

from __future__ import annotations

from typing import Literal

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.core.threat import ThreatModel
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.evaluation import (
    plan_accuracy,
    plan_attack_controls,
    plan_backdoor,
    plan_certificates,
    plan_corruptions,
    plan_robustness,
    plan_sanity,
)
from audit.planning.explanations import plan_drift_between, plan_explanations
from audit.planning.models import plan_compression, plan_int8_engine, plan_training
from audit.planning.other_threats import plan_other_threats, plan_surrogate
from audit.planning.plan import AuditPlan, Slice, Task
from audit.planning.run_identity import RunIdentity, curve_eps
from audit.planning.sections import select_sections

Scope = Literal["train", "audit"]


def build_plan(config: RunConfig, subject: RunIdentity, scope: Scope = "audit") -> AuditPlan:
    """Every task of a run, or of the parts that `config.only` names.

    Raises UsageError for an unknown method, a wrong setting or a wrong eps.
    """
    for eps in curve_eps(config, subject):
        ThreatModel(config.robustness.norm, eps)
    draft = PlanBuilder(config, subject)
    standard = ModelRef("standard", subject.loaded or "")
    if subject.loaded is None:
        standard = plan_training(draft, "standard", config.training)
    plan_accuracy(draft, standard)
    if scope == "audit":
        _plan_audits(draft, standard)
    return select_sections(AuditPlan(tuple(draft.tasks)), config.only)


def _plan_audits(draft: PlanBuilder, standard: ModelRef) -> None:
    before = _plan_audit(draft, standard)
    second = _plan_second(draft, standard)
    if second is not None:
        plan_accuracy(draft, second)
        if draft.config.compression.enabled:
            plan_int8_engine(draft, second)
        after = _plan_audit(draft, second)
        if draft.config.explanations.drift or draft.config.compression.enabled:
            plan_drift_between(draft, second, before, after)
    if draft.config.explanations.calibration:
        draft.add("calibration-of-the-tool", "oracles", ModelRef("standard", ""), Slice("test", 0, 0))


def _plan_second(draft: PlanBuilder, standard: ModelRef) -> ModelRef | None:
    """The model that is audited beside the first: a hardened or a smaller one."""
    config = draft.config
    if config.compression.enabled and config.hardening.enabled:
        raise UsageError(
            "A run compares two models, and this one would harden and compress: set hardening.enabled or "
            "compression.enabled to false, and give the other's --model to a second run."
        )
    if config.compression.enabled:
        return plan_compression(draft, standard)
    return plan_training(draft, "hardened", config.hardening, standard) if config.hardening.enabled else None


def _plan_audit(draft: PlanBuilder, model: ModelRef) -> dict[str, Task]:
    plan_sanity(draft, model)
    surrogate = plan_surrogate(draft, model)
    robust = plan_robustness(draft, model, surrogate)
    plan_attack_controls(draft, model, robust)
    plan_certificates(draft, model)
    plan_backdoor(draft, model)
    plan_other_threats(draft, model, surrogate)
    plan_corruptions(draft, model)
    return plan_explanations(draft, model, robust)
