"""What the cells of a plan cost at most, in passes through the model, and which keys make them cheaper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit.adversarial.batteries import AttackSpec, battery_named
from audit.core.registry import find
from audit.core.types import PassCount
from audit.explanation.mask_reuse import MASKS
from audit.explanation.passes import max_attribution_passes
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
_AFTER = 4
"""Forwards an attack's answer is verified with, at each eps."""


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
    """What the method declares; nothing where it reuses the masks of one that evaluates all, unless that one fails."""
    return max_attribution_passes(task.cell.method, task.cell.settings, subject.shape, task.context.get(MASKS))


def _robustness(task: Task, subject: RunIdentity) -> PassCount:
    """As if no image were broken before the last step of the last attack."""
    battery, curve = battery_named(task.cell.method), len(task.cell.settings["eps"])
    found = PassCount(1, 0)
    for entry in battery.entries:
        times = 1 if entry.sample else curve
        forwards, backwards = _attack(entry)
        found += PassCount(times * (forwards + _AFTER), times * backwards)
    return found + PassCount(battery.shrink * curve, 0)


def _attack(entry: AttackSpec) -> tuple[int, int]:
    method = find("attack", entry.attack)
    settings = method.settings(entry.settings)
    rounds = 1
    for name in ("steps", "restarts", "targets", "queries", "draws"):
        rounds *= int(settings.get(name) or 1)
    return rounds + 2, rounds + 2 if method.facts["needs"] == "gradients" else 0


_OF_ONE_IMAGE = {
    "accuracy": _once,
    "corruption": _once,
    "controls": _controls,
    "faithfulness": _faithfulness,
    "explanation": _explanation,
    "robustness": _robustness,
}
