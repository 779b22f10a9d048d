"""The cells that explain a model, judge its explanations, and watch them move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audit.core.registry import Method, find
from audit.explanation.mask_reuse import MASK_SOURCE, MASKS, can_reuse
from audit.planning.builder import ModelRef, PlanBuilder, select_methods
from audit.planning.plan import Task
from audit.planning.run_identity import headline_eps

DRIFTS = ("constant-label", "manipulation")
SEARCHED_WITH = "integrated-gradients"
SEARCHED_HOW: dict[str, Any] = {"method": {"steps": 16, "max_steps": 16}, "output": "logit", "baseline": "mean"}
"""The attribution by pixel in which shortcuts are looked for: coarse, since a place counts over many images."""

BACKGROUND = 16
"""Images that methods which average over references are given: the first of those explained."""


def plan_explanations(draft: PlanBuilder, model: ModelRef, robust: Task) -> dict[str, Task]:
    """Maps of the clean and of the adversarial images, each judged; the clean ones by method."""
    config = draft.config.explanations
    controls = draft.add("controls", "removal", model, draft.shown)
    begun, asked = len(draft.tasks), select_methods("attribution", config.methods)
    clean: dict[str, Task] = {}
    adversarial: dict[str, Task] = {}
    for method in sorted(asked, key=lambda method: method.name != MASK_SOURCE):
        settings = _settings(draft, method)
        lent = _lent(method, settings, clean)
        explained = clean[method.name] = _explain(draft, method, model, settings | {"on": "clean"}, lent)
        inputs = {"explanation": explained, "controls": controls}
        draft.add("faithfulness", method.name, model, draft.shown, inputs=inputs)
        inputs = {"explanation": explained}
        if draft.subject.masked:
            draft.add("localisation", method.name, model, draft.shown, inputs=inputs)
        moved = {"robustness": robust} | _lent(method, settings, adversarial)
        adversarial[method.name] = _explain(draft, method, model, settings | {"on": "adversarial"}, moved)
        if config.judging:
            draft.add("judging", method.name, model, draft.shown, settings=settings, inputs=inputs | lent)
        if config.drift:
            _drift(draft, method, model, settings, inputs | lent)
    clean = {method.name: clean[method.name] for method in asked}
    draft.tasks[begun:] = _by_method(draft.tasks[begun:], clean)
    if len(clean) > 1:
        draft.add("agreement", "rank-correlation", model, draft.shown, inputs=clean)
    _shortcuts(draft, model)
    return clean


def plan_drift_between(draft: PlanBuilder, second: ModelRef, before: dict[str, Task], after: dict[str, Task]) -> None:
    """How each method's maps moved from one model to the next."""
    for name in (name for name in before if name in after):
        inputs = {"first": before[name], "second": after[name]}
        draft.add("drift", name, second, draft.shown, settings={"kind": "between-models"}, inputs=inputs)


def _lent(method: Method, settings: Mapping[str, Any], planned: Mapping[str, Task]) -> dict[str, Task]:
    """The input whose answers `method` spends, where one is planned on the same images."""
    shared = MASK_SOURCE in planned and can_reuse(method, settings["method"], settings["baseline"])
    return {MASKS: planned[MASK_SOURCE]} if shared else {}


def _by_method(tasks: Iterable[Task], methods: Iterable[str]) -> list[Task]:
    """The lender is planned first; the report tells of the methods in the order asked for."""
    order = list(methods)
    return sorted(tasks, key=lambda task: order.index(task.cell.method))


def _explain(
    draft: PlanBuilder, method: Method, model: ModelRef, settings: dict[str, Any], inputs: dict[str, Task]
) -> Task:
    return draft.add(
        "explanation",
        method.name,
        model,
        draft.shown,
        settings=settings,
        version=method.full_version,
        inputs=inputs,
        context={MASKS: inputs[MASKS].cell.settings["method"]} if MASKS in inputs else {},
    )


def _drift(
    draft: PlanBuilder, method: Method, model: ModelRef, settings: dict[str, Any], inputs: dict[str, Task]
) -> None:
    threat = {"norm": draft.config.robustness.norm, "eps": headline_eps(draft.config, draft.subject)}
    for kind in DRIFTS:
        draft.add(
            "drift",
            method.name,
            model,
            draft.shown,
            settings=settings | {"kind": kind},
            threat=threat,
            inputs=inputs,
        )


def _shortcuts(draft: PlanBuilder, model: ModelRef) -> None:
    examples = draft.config.explanations.shortcut_examples
    if examples:
        method = find("attribution", SEARCHED_WITH)
        (part,) = draft.chunks(examples, examples)
        settings = SEARCHED_HOW | {"method": method.settings(SEARCHED_HOW["method"])}
        draft.add("shortcuts", method.name, model, part, settings=settings, version=method.full_version)


def _settings(draft: PlanBuilder, method: Method) -> dict[str, Any]:
    config = draft.config.explanations
    settings = {
        "method": method.settings(config.settings.get(method.name)),
        "output": config.output,
        "baseline": config.baseline,
    }
    averages = method.facts["references"] and config.baseline is None
    return settings | ({"references": BACKGROUND} if averages else {})
