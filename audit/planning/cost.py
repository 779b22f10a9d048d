"""What the cells of a plan cost at most, in passes through the model, and which keys make them cheaper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.sanity import SAMPLE
from audit.core.registry import find
from audit.core.types import PassCount
from audit.execution.mask_reuse import MASKS
from audit.explanation.shapley_exact import MOST_SEGMENTS
from audit.masking.segmentation import target_count
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.faithfulness.curves import DEFAULTS, ORDERS_OF_A_MAP, control_count

COST_KEYS: Mapping[str, str] = {
    "explanation": "explanations.examples, explanations.settings.METHOD.samples",
    "faithfulness": "explanations.examples",
    "controls": "explanations.examples",
    "robustness": "robustness.examples, robustness.battery",
    "corruption": "corruptions.examples, corruptions.severities",
    "accuracy": "fewer evaluation images",
}
"""By study, the keys that its cost follows."""
_AFTER = 2
"""Forwards an attack's answer is verified with, at each eps: as it is, and with 256 levels."""
_ALWAYS = 6
"""Forwards an image before and after the attacks: clean predictions, verified distances, the images that are kept."""
_CHECKS = PassCount(50, 44)
"""Passes of the controls beside a battery, on each of the first images: gradients, noise, PGD in the grey box."""


@dataclass(frozen=True)
class CostEstimate:
    """`passes` at most, of the cells that can be told; `by_study` the same by study; `untold` how many cannot: what
    they cost depends on what they find, or is training."""

    passes: PassCount
    by_study: Mapping[str, PassCount]
    untold: int


def estimate_cost(tasks: Iterable[Task], subject: RunIdentity) -> CostEstimate:
    """What `tasks` cost at most."""
    by_study: dict[str, PassCount] = {}
    untold = 0
    for task in tasks:
        most = max_passes(task, subject)
        if most is None:
            untold += 1
        else:
            by_study[task.cell.study] = by_study.get(task.cell.study, PassCount(0, 0)) + most
    return CostEstimate(sum(by_study.values(), PassCount(0, 0)), by_study, untold)


def max_passes(task: Task, subject: RunIdentity) -> PassCount | None:
    """What one cell costs at most; None where nobody can tell before."""
    one = _OF_ONE_IMAGE.get(task.cell.study)
    each = None if one is None else one(task, subject)
    return None if each is None else PassCount(each.forwards * len(task.examples), each.backwards * len(task.examples))


def _once(task: Task, subject: RunIdentity) -> PassCount:
    return PassCount(1, 0)


def _removal(orders: int) -> int:
    """Two ends and the steps between, of deletion and insertion under each fill."""
    return 2 * len(list(DEFAULTS["fills"])) * (2 + orders * (int(DEFAULTS["steps"]) - 1))


def _controls(task: Task, subject: RunIdentity) -> PassCount:
    return PassCount(1 + _removal(control_count(DEFAULTS["random_orders"])), 0)


def _faithfulness(task: Task, subject: RunIdentity) -> PassCount:
    return PassCount(_removal(ORDERS_OF_A_MAP), 0)


def _explanation(task: Task, subject: RunIdentity) -> PassCount | None:
    """By the number of samples or steps that the method's settings name; those of one pass name neither. Shapley
    values of a large image that is too plain for the usual number of segments may cost more. Who borrows of a method
    that asks every mask asks none, unless that one fails."""
    method = find("attribution", task.cell.method)
    settings: Mapping[str, Any] = task.cell.settings["method"]
    asked = settings.get("samples") or settings.get("max_steps")
    wanted, most = target_count(*subject.shape[1:])
    lender: Mapping[str, Any] = task.context.get(MASKS, {})
    if lender.get("algorithm") in ("auto", "exact") and most <= MOST_SEGMENTS:
        return PassCount(0, 0)
    if "algorithm" in settings and wanted <= MOST_SEGMENTS:  # enumerated, however many samples were asked
        asked = max(int(asked or 0), 2 ** min(MOST_SEGMENTS, most))
    if asked is None and method.facts["needs"] == "scores":
        return None
    passes = int(asked or 1) + 3  # the prediction, and the two ends
    return PassCount(passes, 0 if method.facts["needs"] == "scores" else passes)


def _robustness(task: Task, subject: RunIdentity) -> PassCount | None:
    """As if no image were broken before the last step of the last attack; None where an attack declares no cost."""
    settings = task.cell.settings
    battery, curve = battery_of_cell(task.cell.method, settings.get("protocol")), len(settings["eps"])
    checked = min(1.0, SAMPLE / max(1, len(task.examples)))
    most = PassCount(_ALWAYS + math.ceil(checked * _CHECKS.forwards), math.ceil(checked * _CHECKS.backwards))
    for entry in battery.entries:
        method = entry.method
        passes = method.max_passes(method.settings(entry.settings))
        if passes is None:
            return None
        times = 1 if entry.control_sample or method.facts["minimal"] else curve
        most += PassCount(times * (passes[0] + _AFTER), times * passes[1])
    return most + PassCount(battery.refine_steps, 0)


_OF_ONE_IMAGE = {
    "accuracy": _once,
    "corruption": _once,
    "controls": _controls,
    "faithfulness": _faithfulness,
    "explanation": _explanation,
    "robustness": _robustness,
}
