"""Do the attacks behave as attacks must? A sample attacked in ways whose outcomes are ordered by construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.batteries import AttackSpec, Battery, battery_named
from audit.adversarial.eot import eot_if_stochastic
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.run_battery import run_battery
from audit.adversarial.verify import verify
from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import find, study
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.resumable import ResumableSteps
from audit.metrics.red_flags import Threshold, over_threshold
from audit.models.under_test import ModelUnderTest

PGD: Mapping[str, Any] = {"steps": 40, "relative_step": 0.1, "loss": "margin"}
"""The attack that is held against weaker ones, and against itself."""

WEAKER = ("noise_only", "fgsm_only")
"""Controls that break nothing which that attack leaves unbroken."""

DOUBLED = ("steps", "restarts", "queries", "draws")
"""Settings that are effort."""

LIMITS: Mapping[str, Threshold] = {
    "noise_only": Threshold(
        0, 0.01, "Random noise broke {count} of {n} images that PGD left unbroken: the gradient attack fails.", 2
    ),
    "fgsm_only": Threshold(
        0, 0.01, "One step broke {count} of {n} images that forty steps left unbroken: the steps mislead.", 2
    ),
    "shrinking": Threshold(
        0, 0.01, "PGD broke {count} of {n} images at an eps and not at a larger one: success must grow with eps.", 2
    ),
    "doubled": Threshold(
        0, 0.005, "Twice the effort broke {count} of {n} images more: the battery has not run to its end.", 2
    ),
    "unbroken_in_box": Threshold(
        0, 0.05, "PGD free to paint any image leaves {share:.0%} unbroken: the attack fails, not the model resists.", 2
    ),
}
"""By measurement, after Carlini et al. 2019 (arXiv:1902.06705): each ought to be 0 for a model that hides nothing."""


@study()
def attack_controls(context: Context, cell: Cell) -> Evidence:
    """Controls of a battery, per example, 0 or 1 and better 0: noise_only, fgsm_only, shrinking, doubled (broken once
    every attack has twice the steps and restarts), unbroken_in_box.

    `cell.method` names the battery; `cell.threat` its norm and eps; setting "eps" the curve. The input "robustness" is
    the battery's evidence on examples that begin with these. Facts: `suspicions`, as in the sanity study.
    """
    model, batch = context.model(), context.batch()
    threat = ThreatModel((cell.threat or {})["norm"], float((cell.threat or {})["eps"]))
    survived = context.evidence("robustness").measurement("robust").per_example[: len(batch)] > 0
    with model.count() as spent, eot_if_stochastic(model, batch.images, cell.seed):
        controls = _controls(model, batch, threat, cell)
        controls["doubled"] = partial(_doubled, context, model, batch, torch.from_numpy(survived), threat, cell)
        steps = ResumableSteps(context, model, len(controls), "measuring the controls of the attacks")
        broken = {name: steps.run(name, partial(_told, control))["broken"] for name, control in controls.items()}
    measured = {name: broken[name] & ~broken["pgd"] if name in WEAKER else broken[name] for name in LIMITS}
    values = {name: measured[name].double().numpy().astype(np.float64) for name in LIMITS}
    return Evidence(
        cell,
        "measured",
        tuple(Measurement(name, "share", "lower", broken) for name, broken in values.items()),
        facts={"suspicions": [asdict(doubt) for doubt in over_threshold(values, LIMITS)], "pgd": dict(PGD)},
        forwards=spent.forwards,
        backwards=spent.backwards,
    )


def _told(control: Callable[[], Tensor]) -> dict[str, Tensor]:
    return {"broken": control()}


def _controls(model: ModelUnderTest, batch: Batch, threat: ThreatModel, cell: Cell) -> dict[str, Callable[[], Tensor]]:
    """What each control asks for, bool (N,): PGD itself first, which those in `WEAKER` ought not to outdo."""
    broken = partial(_broken, model, batch, seed=cell.seed)
    whole = box(threat.norm, math.prod(model.input_shape))

    def shrinking() -> Tensor:
        sizes: Sequence[float] = sorted(cell.settings.get("eps", ()))
        curve = [broken(ThreatModel(threat.norm, eps), name="pgd", settings=PGD) for eps in sizes]
        smaller = [small & ~large for small, large in pairwise(curve)]
        return torch.stack(smaller).any(0) if smaller else torch.zeros(len(batch), dtype=torch.bool, device="cpu")

    return {
        "pgd": partial(broken, threat, name="pgd", settings=PGD),
        "noise_only": partial(broken, threat, name="random-noise", settings={}),
        "fgsm_only": partial(broken, threat, name="fgsm", settings={"loss": "margin"}),
        "shrinking": shrinking,
        "unbroken_in_box": lambda: ~broken(whole, name="pgd", settings={**PGD, "restarts": 2}),
    }


def _broken(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, *, seed: int, name: str, settings: Mapping[str, Any]
) -> Tensor:
    """Whether the attack alone breaks each image, judged by the verifier; bool (N,). Wrong to begin with is broken."""
    method = find("attack", name)
    draws = Generators.of(batch.ids, seed=seed, purpose=f"control: {name} {threat.eps!r}", device="cpu")
    proposals = method.function(model, batch, threat, draws, **method.settings(settings))
    wrong = is_adversarial(model, batch, batch.images)
    return (verify(model, batch, proposals, threat).broken.to(wrong.device) | wrong).cpu()


def _doubled(
    context: Context, model: ModelUnderTest, batch: Batch, survived: Tensor, threat: ThreatModel, cell: Cell
) -> Tensor:
    """Whether twice the effort breaks what the battery did not, bool (N,)."""
    gained = torch.zeros(len(batch), dtype=torch.bool, device="cpu")
    index = survived.nonzero().flatten()
    if len(index):
        battery = twice(battery_named(cell.method))
        part = batch.select(index.to(batch.labels.device))
        found = run_battery(
            model,
            part,
            threat.norm,
            [threat.eps],
            battery=battery,
            seed=cell.seed,
            stopping=context.stopping,
            unfinished=context.checkpoint("doubled"),
        )
        gained[index] = ~found.robust.cpu()
    return gained


def box(norm: Norm, size: int) -> ThreatModel:
    """A threat model within which any image can become any other; `size` is the number of pixel values."""
    return ThreatModel(norm, {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[norm])


def twice(battery: Battery) -> Battery:
    """The battery with every effort doubled, nothing given up early and no sampling."""
    return replace(battery, name=f"{battery.name}, twice", entries=tuple(_twice(entry) for entry in battery.entries))


def _twice(entry: AttackSpec) -> AttackSpec:
    method = find("attack", entry.attack)
    known = method.settings(entry.settings)
    harder = {name: 2 * known[name] for name in DOUBLED if name in known}
    patient = {"give_up": False} if "give_up" in known else {}
    return replace(entry, settings={**entry.settings, **harder, **patient}, sample=0, closest=1.0)
