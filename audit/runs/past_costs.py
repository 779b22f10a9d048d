"""What the cells of a store cost, as far as that tells of a plan."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import ValidationError

from audit.adversarial.attack_result import AttackResult
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import PassCount
from audit.planning.battery_cost import BatteryOutcomes
from audit.planning.experience import CellCost
from audit.planning.plan import AuditPlan
from audit.planning.run_identity import RunIdentity
from audit.storage.store import Store


def past_costs(store: Store, plan: AuditPlan, identity: RunIdentity, device: torch.device) -> tuple[CellCost, ...]:
    """The cost of the stored cells that ran on the data and the models of a plan.

    Args:
        store: The store of a run folder, which need not exist.
        plan: The plan.
        identity: Identities and sizes of the data and the model.
        device: Where the plan would be computed: seconds of another device, or of other threads, are not told.
    """
    models = {task.cell.model for task in plan.tasks}
    data = tuple(fingerprint for fingerprint in (identity.test, identity.train) if fingerprint)
    return tuple(
        cost
        for evidence in store.without_arrays()
        if evidence.status == "measured" and evidence.cell.model in models
        if not evidence.cell.examples or evidence.cell.examples.startswith(data)
        for cost in _cost(evidence, device)
    )


def _cost(evidence: Evidence, device: torch.device) -> Iterator[CellCost]:
    here = {"device": str(device), "threads": torch.get_num_threads()}
    same_machine = all(evidence.environment.get(name) == value for name, value in here.items())
    examples = examples_of(evidence.cell)
    yield CellCost(
        evidence.cell,
        examples,
        PassCount(evidence.forwards, evidence.backwards),
        evidence.seconds if same_machine else None,
        "store",
        outcomes_of(evidence, examples),
    )


def examples_of(cell: Cell) -> int:
    """The number of examples of a cell, as its key names them.

    Args:
        cell: A cell; its `examples` ends in START-STOP, or is empty for none.
    """
    start, _, stop = cell.examples.rpartition(":")[2].partition("-")
    return int(stop) - int(start) if stop else 0


def outcomes_of(evidence: Evidence, images: int) -> BatteryOutcomes | None:
    """What a battery did to the images of its evidence; None of other evidence.

    Args:
        evidence: Of any study.
        images: How many images it was given.
    """
    try:
        rows = tuple(AttackResult.model_validate(row) for row in evidence.facts.get("rows", ()))
    except (ValidationError, TypeError):
        return None
    if evidence.cell.study != "robustness" or not rows:
        return None
    return BatteryOutcomes(images, rows[0].survivors, rows, draws=int(evidence.facts.get("draws", 1)))
