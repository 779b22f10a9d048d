"""The plan of a whole run."""

from __future__ import annotations

from typing import Literal

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.core.threat import ThreatModel
from audit.core.topic import Topic, topics
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.models import plan_compression, plan_training
from audit.planning.plan import AuditPlan
from audit.planning.run_identity import RunIdentity, curve_eps
from audit.planning.sections import select_sections

FIRST_TOPICS = ("accuracy", "detection_accuracy")
"""The topic of each task that tells how good a model is on clean images, which every run measures."""
Scope = Literal["train", "audit"]


def build_plan(config: RunConfig, identity: RunIdentity, scope: Scope = "audit") -> AuditPlan:
    """Every task of a run, or of the sections that `config.only` names.

    Args:
        config: The configuration of the run.
        identity: Identities and sizes of the data and the model.
        scope: "audit" for everything, "train" for the training and the clean accuracy of one model.

    Raises:
        UsageError: A method is unknown, a setting or an eps invalid, or two second models are asked for.
    """
    for eps in curve_eps(config, identity):
        ThreatModel(config.robustness.norm, eps)
    builder = PlanBuilder(config, identity)
    standard = ModelRef("standard", identity.loaded or "")
    if identity.loaded is None:
        standard = plan_training(builder, "standard", config.training)
    if scope == "train":
        _plan_model(builder, standard, FIRST_TOPICS)
    else:
        _plan_audit(builder, standard)
    return select_sections(AuditPlan(tuple(builder.tasks), config.stop), config.only)


def _plan_audit(builder: PlanBuilder, standard: ModelRef) -> None:
    _plan_model(builder, standard)
    second = _plan_second(builder, standard)
    if second is not None:
        _plan_model(builder, second)
        for topic in _topics_of(builder):
            if plan_pair := topic.function("plan", "plan_pair"):
                plan_pair(builder, standard, second)
    for topic in _topics_of(builder):
        if plan_run := topic.function("plan", "plan_run"):
            plan_run(builder)


def _plan_model(builder: PlanBuilder, model: ModelRef, names: tuple[str, ...] = ()) -> None:
    """What each topic asks of one model; only the topics of these names where some are given."""
    for topic in _topics_of(builder):
        plan = topic.function("plan", "plan") if not names or topic.name in names else None
        if plan:
            plan(builder, model)


def _topics_of(builder: PlanBuilder) -> tuple[Topic, ...]:
    """The topics of the run's task."""
    return tuple(topic for topic in topics() if topic.task == builder.identity.task)


def _plan_second(builder: PlanBuilder, standard: ModelRef) -> ModelRef | None:
    """The model that is audited beside the first: a hardened or a smaller one."""
    config = builder.config
    if config.compression.enabled and config.hardening.enabled:
        raise UsageError(
            "A run compares two models, and this one would harden and compress: set hardening.enabled or "
            "compression.enabled to false, and give the other's --model to a second run."
        )
    if config.compression.enabled:
        return plan_compression(builder, standard)
    return plan_training(builder, "hardened", config.hardening, standard) if config.hardening.enabled else None
