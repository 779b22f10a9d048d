"""Threats beside the ball of a norm around each image: poses, one change for all images, attacks made elsewhere.

Each stands on its own line and enters no worst case: what an adversary may do differs from line to line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.eot import eot_if_stochastic
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.verify import Threat, verify
from audit.attacks.mi_fgsm import mi_fgsm
from audit.attacks.patch import PatchThreat, patch
from audit.attacks.random_noise import noisy
from audit.attacks.spatial import PosedThreat, SpatialThreat, apply_pose, spatial
from audit.attacks.universal import perturbed, universal
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable, UsageError, unknown_name
from audit.core.evidence import Evidence, Measurement
from audit.core.note import note
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.models.under_test import ModelUnderTest
from audit.topics.other_threats.facts import OtherThreatsFacts, OtherThreatsSettings
from audit.topics.surrogate.facts import SurrogateFacts
from audit.topics.surrogate.study import surrogate_model

MIN_OTHER_THREAT_IMAGES = 8
"""Images below which a change made on half of them says nothing of the other half."""
TRANSFER_STEPS = 20


@dataclass(frozen=True)
class ThreatRequest:
    """The question: a model, all examples, and what the cell says."""

    context: Context
    cell: Cell
    model: ModelUnderTest
    batch: Batch

    @property
    def settings(self) -> OtherThreatsSettings:
        """The settings of the cell."""
        return OtherThreatsSettings.of(self.cell)

    @property
    def ball(self) -> ThreatModel:
        """The cell's norm and eps."""
        threat = self.cell.threat or {}
        return ThreatModel(threat["norm"], threat["eps"])

    def draws(self, batch: Batch, purpose: str) -> Generators:
        """A generator an example."""
        return Generators.of(batch.ids, seed=self.cell.seed, purpose=purpose, device=self.model.device)

    def halves(self) -> tuple[Tensor, Tensor]:
        """Positions to make a change on, and to score it on: disjoint. Raises NotApplicable for too few."""
        if len(self.batch) < MIN_OTHER_THREAT_IMAGES:
            raise NotApplicable(
                note(
                    "universal_few",
                    "A change for all images is made on one half and scored on the other; {given} images are fewer "
                    "than the {fewest} that takes.",
                    given=len(self.batch),
                    fewest=MIN_OTHER_THREAT_IMAGES,
                )
            )
        index = torch.arange(len(self.batch), device=self.batch.labels.device)
        return index[0::2], index[1::2]


@dataclass(frozen=True)
class ThreatProposal:
    """What the verifier is to judge: `proposals` for the examples `part` at `index`, within `bounds`; `control` the
    same images under a change of the same size that knows nothing of the model."""

    threat: str
    index: Tensor
    part: Batch
    proposals: Images
    bounds: Threat
    control: Images
    made_on: int = 0
    target: str = ""
    made_by: str = ""
    agreement: float | None = None
    aside: PassCount = field(default_factory=PassCount)


@study()
def other_threats(context: Context, cell: Cell) -> Evidence:
    """How many images withstand `cell.method`: spatial, universal, patch or transfer.

    Settings and facts: see `OtherThreatsSettings` and `OtherThreatsFacts`. `cell.threat` is the ball of universal and
    transfer; the latter needs the input "surrogate". Measurement withstood: 1 where the image was right and still is,
    NaN where it was made on or, with a target, is of that class.
    """
    if cell.method not in _TRIALS:
        raise unknown_name("threat", cell.method, _TRIALS)
    if context.stopping():
        raise Interrupted(f"Stopped before {cell.method}; the same command resumes.")
    model = context.model()
    batch = context.batch().to(model.device)
    with model.count() as spent, eot_if_stochastic(model, batch.images, cell.seed) as draws:
        asked = ThreatRequest(context, cell, model, batch)
        trial = _TRIALS[cell.method](asked)
        verdicts = verify(model, trial.part, trial.proposals, trial.bounds)
        wrong = is_adversarial(model, trial.part, trial.part.images)
        blind = is_adversarial(model, trial.part, trial.control)
    withstood = np.full(len(asked.batch), np.nan)
    withstood[trial.index.cpu().numpy()] = (~verdicts.broken & ~wrong).double().cpu().numpy()
    return measured_evidence(
        cell,
        (Measurement("withstood", "share", "higher", withstood),),
        facts=OtherThreatsFacts(
            threat=trial.threat,
            target=trial.target,
            made_on=trial.made_on,
            made_by=trial.made_by,
            agreement=trial.agreement,
            scored=len(trial.part),
            right=int((~wrong).sum()),
            control=int((~wrong & ~blind).sum()),
            faults=int(verdicts.faults.sum()),
            draws=draws,
        ),
        passes=spent.passes + trial.aside,
    )


def _spatial(asked: ThreatRequest) -> ThreatProposal:
    batch, threat = asked.batch, _poses(asked.settings)
    poses = spatial(asked.model, batch, threat, asked.draws(batch, "spatial"), **asked.settings.attack)
    limits = poses.new_tensor([threat.rotation, threat.translation, threat.translation])
    anyhow = (asked.draws(batch, "spatial: control").uniform(3) * 2 - 1) * limits
    index = torch.arange(len(batch), device=batch.labels.device)
    shown, control = apply_pose(batch.images, poses), apply_pose(batch.images, anyhow)
    return ThreatProposal(str(threat), index, batch, shown, PosedThreat(threat, poses), control)


def _poses(settings: OtherThreatsSettings) -> SpatialThreat:
    if settings.rotation is None or settings.translation is None:
        raise UsageError("A spatial threat needs a rotation and a translation; give both in the settings of the cell.")
    return SpatialThreat(settings.rotation, settings.translation)


def _universal(asked: ThreatRequest) -> ThreatProposal:
    first, second = asked.halves()
    made_on, part, ball = asked.batch.select(first), asked.batch.select(second), asked.ball
    delta = universal(asked.model, made_on, ball, asked.draws(made_on, "universal"), **asked.settings.attack)
    grey = torch.full_like(delta, 0.5)
    blind = noisy(grey, ball, _one(asked, "universal: control")) - grey
    shown, control = perturbed(part.images, delta), perturbed(part.images, blind)
    return ThreatProposal(f"{ball}", second, part, shown, ball, control, made_on=len(first))


def _patch(asked: ThreatRequest) -> ThreatProposal:
    first, second = asked.halves()
    if asked.settings.area is None:
        raise UsageError("A patch needs an area; give it in the settings of the cell.")
    threat = PatchThreat(asked.settings.area)
    made_on, part = asked.batch.select(first), asked.batch.select(second)
    targets = min(asked.settings.targets, len(asked.model.classes))
    label, paint = _aimed(asked, made_on, threat, targets) if targets else (None, _painted(asked, made_on, threat))
    if label is not None:
        elsewhere = (part.labels != label) & (asked.model.predictions(part.images) != label)
        part, second = _towards(part, label, asked).select(elsewhere), second[elsewhere]
    control = threat.painted(part.images, _one(asked, "patch: control").uniform(*asked.model.input_shape))
    shown = threat.painted(part.images, paint)
    target = "" if label is None else asked.model.classes[label]
    return ThreatProposal(str(threat), second, part, shown, threat, control, made_on=len(first), target=target)


def _aimed(asked: ThreatRequest, made_on: Batch, threat: PatchThreat, targets: int) -> tuple[int, Images]:
    """Of the patches towards each class, the one that moves most of the images it was made on."""
    best, kept = -1.0, (0, made_on.images[:1])
    for label in range(targets):
        if asked.context.stopping():
            raise Interrupted("Stopped between two patches; the same command resumes.")
        others = _towards(made_on, label, asked).select(made_on.labels != label)
        paint = _painted(asked, others, threat)
        moved = float(is_adversarial(asked.model, others, threat.painted(others.images, paint)).double().mean())
        if moved > best:
            best, kept = moved, (label, paint)
        asked.context.progress(label + 1, targets)
    return kept


def _painted(asked: ThreatRequest, made_on: Batch, threat: PatchThreat) -> Images:
    return patch(asked.model, made_on, threat, asked.draws(made_on, "patch"), **asked.settings.attack)


def _towards(batch: Batch, label: int, asked: ThreatRequest) -> Batch:
    """The same examples, broken by one class alone."""
    goal = torch.zeros(len(batch), len(asked.model.classes), dtype=torch.bool, device=batch.labels.device)
    goal[:, label] = True
    return replace(batch, adversarial_classes=goal)


def _transfer(asked: ThreatRequest) -> ThreatProposal:
    evidence = asked.context.evidence("surrogate")
    facts = evidence.facts_as(SurrogateFacts)
    other = surrogate_model(evidence, asked.model.device)
    index = torch.arange(len(asked.batch), device=asked.batch.labels.device)
    index = index if facts.elsewhere else asked.halves()[1]
    part, ball = asked.batch.select(index), asked.ball
    with other.count() as aside:
        shown = mi_fgsm(other, part, ball, asked.draws(part, "transfer"), steps=TRANSFER_STEPS, to_the_end=True)
    return ThreatProposal(
        str(ball),
        index,
        part,
        shown,
        ball,
        noisy(part.images, ball, asked.draws(part, "transfer: control")),
        made_on=facts.taught_on,
        made_by=facts.architecture,
        agreement=facts.agreement,
        aside=aside.passes,
    )


def _one(asked: ThreatRequest, purpose: str) -> Generators:
    return Generators.of(["all"], seed=asked.cell.seed, purpose=purpose, device=asked.model.device)


_TRIALS: dict[str, Callable[[ThreatRequest], ThreatProposal]] = {
    "spatial": _spatial,
    "universal": _universal,
    "patch": _patch,
    "transfer": _transfer,
}
