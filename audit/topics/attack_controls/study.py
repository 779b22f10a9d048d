"""Sanity checks of the attacks: a sample is attacked in ways whose outcomes are ordered by construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery import Battery
from audit.adversarial.eot import eot_if_stochastic
from audit.adversarial.propose import propose
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.run_battery import run_battery
from audit.adversarial.sanity import full_box_threat
from audit.adversarial.thresholds import rows_of
from audit.adversarial.verify import verify
from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import find, study
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS, no_steps_within
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps
from audit.models.under_test import ModelUnderTest
from audit.topics.attack_controls.facts import AttackControlsFacts, AttackControlsSettings
from audit.topics.attack_controls.protocol import BOX_RESTARTS, PGD, twice

WEAKER = ("noise_only", "fgsm_only")
"""Weaker attacks, which must break nothing that PGD leaves unbroken."""

MEASUREMENTS = rows_of("attack controls")
"""After Carlini et al. 2019 (arXiv:1902.06705): each should be 0 for a model without gradient masking."""


@study()
def attack_controls(context: Context, cell: Cell) -> Evidence:
    """Sanity checks of a battery, per example: 0 or 1, and 0 is good.

    Measurements: `noise_only` and `fgsm_only`, broken by that and not by PGD; `shrinking`, broken at an eps and not at
    a larger one; `doubled`, broken once every attack has twice the effort; `unbroken_in_box`, unbroken by PGD in the
    whole box. `cell.method` names the battery; `cell.threat` its norm and eps; settings and facts: see
    `AttackControlsSettings` and `AttackControlsFacts`. The input "robustness" is the battery's evidence on the
    first examples of the audit order, these among them.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        NotApplicable: The norm's ball is not convex, and PGD has no step within it.
    """
    model, batch = context.model(), context.batch()
    battery = battery_of_cell(cell.method, AttackControlsSettings.of(cell).protocol)
    threat = ThreatModel((cell.threat or {})["norm"], float((cell.threat or {})["eps"]))
    if threat.norm not in CONVEX_NORMS:
        raise NotApplicable(no_steps_within(threat.norm))
    examples = context.task.examples
    survived = context.evidence("robustness").measurement("robust").per_example[examples.start : examples.stop] > 0
    with model.count() as counter, eot_if_stochastic(model, batch.images, cell.seed):
        controls = _controls(model, batch, threat, cell)
        controls["doubled"] = partial(
            _doubled, context, model, batch, torch.from_numpy(survived), threat, battery, cell.seed
        )
        steps = ResumableSteps(context, model, len(controls), "measuring the controls of the attacks")
        broken = {name: steps.run(name, partial(_as_output, control))["broken"] for name, control in controls.items()}
    measured = {name: broken[name] & ~broken["pgd"] if name in WEAKER else broken[name] for name in MEASUREMENTS}
    values = {name: measured[name].double().numpy().astype(np.float64) for name in MEASUREMENTS}
    return measured_evidence(
        cell,
        tuple(Measurement(name, "share", "lower", broken) for name, broken in values.items()),
        facts=AttackControlsFacts(pgd=dict(PGD), **_undeclared(battery)),
        passes=counter.passes,
    )


def _undeclared(battery: Battery) -> dict[str, Any]:
    """The attacks that were not given twice the effort, for none of their settings is declared to be effort."""
    names = [entry.title for entry in battery.entries if entry.method.facts.get("effort") is None]
    return {"effort_not_declared": names} if names else {}


def _as_output(control: Callable[[], Tensor]) -> dict[str, Tensor]:
    return {"broken": control()}


def _controls(model: ModelUnderTest, batch: Batch, threat: ThreatModel, cell: Cell) -> dict[str, Callable[[], Tensor]]:
    """What each check computes, bool (N,): PGD itself first, which those in `WEAKER` must not outdo."""
    broken = partial(_broken, model, batch, seed=cell.seed)
    full_box = full_box_threat(threat.norm, math.prod(model.input_shape))

    def shrinking() -> Tensor:
        sizes = sorted(AttackControlsSettings.of(cell).eps)
        curve = [broken(ThreatModel(threat.norm, eps), name="pgd", settings=PGD) for eps in sizes]
        smaller = [small & ~large for small, large in pairwise(curve)]
        return torch.stack(smaller).any(0) if smaller else torch.zeros(len(batch), dtype=torch.bool, device="cpu")

    return {
        "pgd": partial(broken, threat, name="pgd", settings=PGD),
        "noise_only": partial(broken, threat, name="random-noise", settings={}),
        "fgsm_only": partial(broken, threat, name="fgsm", settings={"loss": "margin"}),
        "shrinking": shrinking,
        "unbroken_in_box": lambda: ~broken(full_box, name="pgd", settings={**PGD, "restarts": BOX_RESTARTS}),
    }


def _broken(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, *, seed: int, name: str, settings: Mapping[str, Any]
) -> Tensor:
    """Whether one attack breaks each image, judged by the verifier, bool (N,); images that were wrong before count."""
    method = find("attack", name)
    draws = Generators.of(batch.ids, seed=seed, purpose=f"control: {name} {threat.eps!r}", device="cpu")
    proposals = propose(method, model, batch, threat, draws, method.settings(settings))
    wrong = is_adversarial(model, batch, batch.images)
    return (verify(model, batch, proposals, threat).broken.to(wrong.device) | wrong).cpu()


def _doubled(
    context: Context,
    model: ModelUnderTest,
    batch: Batch,
    survived: Tensor,
    threat: ThreatModel,
    battery: Battery,
    seed: int,
) -> Tensor:
    """Whether twice the effort breaks what the battery did not, bool (N,)."""
    gained = torch.zeros(len(batch), dtype=torch.bool, device="cpu")
    index = survived.nonzero().flatten()
    if len(index):
        subset = batch.select(index.to(batch.labels.device))
        outcome = run_battery(
            model,
            subset,
            threat.norm,
            [threat.eps],
            battery=twice(battery),
            seed=seed,
            stopping=context.stopping,
            unfinished=context.checkpoint("doubled"),
        )
        gained[index] = ~outcome.robust.cpu()
    return gained
