"""How a few images of a model fare under the cheap attacks of a battery."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.run_battery import run_battery
from audit.core.errors import AuditError, Interrupted
from audit.core.types import Batch, PassCount
from audit.models.under_test import ModelUnderTest
from audit.planning.battery_cost import BatteryOutcomes, share_on_survivors
from audit.planning.experience import CellCost
from audit.planning.plan import Task
from audit.planning.throughput import Throughput
from audit.storage.checkpoint import CellCheckpoint
from audit.storage.store import Store

ATTACK_SECONDS = 30.0
"""So long attacks go on, but for the one under way."""
SECONDS_AN_ATTACK = 30.0
"""An attack that takes longer at one eps on images that it does not break is left out: all are taken to survive it."""
GRADIENTS = 40
"""Gradients that an image may cost a probe, by which the number of images follows from the time of one."""
FEWEST, MOST = 4, 64


def images_to_attack(throughput: Throughput) -> int:
    """How many images a probe attacks: many where that is quick, since shares are told by their number.

    Args:
        throughput: How long passes take.
    """
    return max(FEWEST, min(MOST, int(1.0 / (GRADIENTS * throughput.gradient))))


def attack_a_few(
    model: ModelUnderTest, batch: Batch, task: Task, scratch: Store, throughput: Throughput, *, exists: bool
) -> CellCost | None:
    """Run the cheap attacks of a cell on a few images, at its eps.

    Args:
        model: The model, or an untrained one in its place.
        batch: The images.
        task: A cell of attacks.
        scratch: Where unfinished work may lie.
        throughput: How long passes take.
        exists: Whether the model is the cell's own. Of another only the time counts: the images get the labels that
            it predicts, and what becomes of them is not told.

    Returns:
        What it cost; None where no attack is cheap enough, or none can run.
    """
    settings, threat = task.cell.settings, task.cell.threat or {}
    battery = battery_of_cell(task.cell.method, settings.get("protocol"))
    cheap = replace(
        battery, name="probe", entries=tuple(_cheap(battery, model, len(batch), throughput)), refine_steps=0
    )
    if not cheap.entries:
        return None
    if not exists:
        batch = replace(batch, labels=model.predictions(batch.images).cpu())
    unfinished = CellCheckpoint(scratch.scratch("battery") / "cell.safetensors")
    stops_at = time.monotonic() + ATTACK_SECONDS
    started = time.monotonic()
    eps = tuple(settings.get("eps") or (threat["eps"],))
    try:
        result = run_battery(
            model,
            batch,
            threat["norm"],
            eps,
            battery=cheap,
            sanity_checks=False,
            headline=settings.get("headline", threat["eps"]),
            stopping=lambda: time.monotonic() > stops_at,
            unfinished=unfinished,
        )
        rows, passes, draws = result.rows, result.passes, result.draws
    except Interrupted:
        rows, passes = _unfinished(unfinished)
        draws = 1
    except AuditError:
        return None  # the run itself will say what is wrong, in its place
    finally:
        scratch.clear_scratch("battery")
    if not rows:
        return None
    cell = replace(task.cell, method="probe", examples="")
    outcomes = BatteryOutcomes(len(batch), rows[0].survivors, rows, draws=draws) if exists else None
    return CellCost(cell, len(batch), passes, time.monotonic() - started, "probe", outcomes)


def _cheap(battery: Battery, model: ModelUnderTest, images: int, throughput: Throughput) -> list[AttackSpec]:
    entries = []
    for entry in battery.entries:
        passes = entry.method.max_passes(entry.method.settings(entry.settings), model.input_shape)
        if passes is not None and not entry.transferred and entry.hardest_fraction == 1:
            if images * throughput.seconds(passes) * share_on_survivors(entry) <= SECONDS_AN_ATTACK:
                entries.append(entry)
    return entries


def _unfinished(checkpoint: CellCheckpoint) -> tuple[tuple[AttackResult, ...], PassCount]:
    stored = checkpoint.load()
    if stored is None:
        return (), PassCount()
    facts: Any = stored[1]
    return tuple(AttackResult.model_validate(row) for row in facts["rows"]), PassCount(**facts["passes"])
