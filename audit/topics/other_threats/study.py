"""Threats other than a norm ball around each image: poses, one change for all images, transferred attacks.

Each is reported on its own and enters no worst case, since what an adversary may do differs between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from audit.adversarial.eot import eot_if_stochastic
from audit.adversarial.gradient_reach import gradients_over_flat_faces
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.verify import verify
from audit.attacks.mi_fgsm import mi_fgsm
from audit.attacks.patch import PatchThreat, patch
from audit.attacks.random_noise import noisy
from audit.attacks.spatial import PosedThreat, SpatialThreat, apply_pose, spatial
from audit.attacks.universal import perturbed, universal
from audit.core.cell import Cell
from audit.core.errors import Interrupted, UsageError, unknown_name
from audit.core.evidence import Evidence, Measurement
from audit.core.precise import precise
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.topics.other_threats.facts import TRANSFER_STEPS, OtherThreatsFacts, OtherThreatsSettings
from audit.topics.other_threats.proposal import ThreatProposal, ThreatRequest
from audit.topics.surrogate.facts import SurrogateFacts
from audit.topics.surrogate.study import surrogate_model


@study()
def other_threats(context: Context, cell: Cell) -> Evidence:
    """How many images withstand `cell.method`: spatial, universal, patch or transfer.

    Settings and facts: see `OtherThreatsSettings` and `OtherThreatsFacts`. `cell.threat` is the ball of universal and
    transfer; the latter needs the input "surrogate". Measurement `withstood`: 1 where the image was right and still is,
    NaN where the change was made on it or, with a target, where it is of that class.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    if cell.method not in _THREATS:
        raise unknown_name("threat", cell.method, _THREATS)
    if context.stopping():
        raise Interrupted(f"Stopped before {cell.method}; the same command resumes.")
    model = context.model()
    batch = context.batch().to(model.device)
    norm = (cell.threat or {}).get("norm", "linf")  # a pose or a patch may change a pixel by any amount
    with model.count() as counter, eot_if_stochastic(model, batch.images, cell.seed) as draws:
        request = ThreatRequest(context, cell, model, batch)
        with gradients_over_flat_faces(model, norm):
            proposal = _THREATS[cell.method](request)
        verdicts = verify(model, proposal.batch, proposal.proposals, proposal.bounds)
        wrong = is_adversarial(model, proposal.batch, proposal.batch.images)
        blind = is_adversarial(model, proposal.batch, proposal.control)
    withstood = np.full(len(request.batch), np.nan)
    withstood[proposal.index.cpu().numpy()] = (~verdicts.broken & ~wrong).cpu().double().numpy()
    return measured_evidence(
        cell,
        (Measurement("withstood", "share", "higher", withstood),),
        facts=OtherThreatsFacts(
            threat=proposal.threat,
            target=proposal.target,
            made_on=proposal.made_on,
            made_by=proposal.made_by,
            agreement=proposal.agreement,
            scored=len(proposal.batch),
            right=int((~wrong).sum()),
            control=int((~wrong & ~blind).sum()),
            faults=int(verdicts.faults.sum()),
            draws=draws,
            painted=bounds.share_of(batch.images) if isinstance(bounds := proposal.bounds, PatchThreat) else None,
        ),
        passes=counter.passes + proposal.surrogate_passes,
    )


def _spatial(request: ThreatRequest) -> ThreatProposal:
    batch, threat = request.batch, _spatial_threat(request.settings)
    poses = spatial(request.model, batch, threat, request.draws(batch, "spatial"), **request.settings.attack)
    limits = poses.new_tensor([threat.rotation, threat.translation, threat.translation])
    random_poses = (request.draws(batch, "spatial: control").uniform(3) * 2 - 1) * limits
    index = torch.arange(len(batch), device=batch.labels.device)
    proposals, control = apply_pose(batch.images, poses), apply_pose(batch.images, random_poses)
    return ThreatProposal(str(threat), index, batch, proposals, PosedThreat(threat, poses), control)


def _spatial_threat(settings: OtherThreatsSettings) -> SpatialThreat:
    if settings.rotation is None or settings.translation is None:
        raise UsageError("A spatial threat needs a rotation and a translation; give both in the settings of the cell.")
    return SpatialThreat(settings.rotation, settings.translation)


def _universal(request: ThreatRequest) -> ThreatProposal:
    first, second = request.halves()
    made_on, batch, ball = request.batch.select(first), request.batch.select(second), request.ball
    delta = universal(request.model, made_on, ball, request.draws(made_on, "universal"), **request.settings.attack)
    grey = torch.full_like(delta, 0.5)
    blind = noisy(grey, ball, _shared_generator(request, "universal: control")) - grey
    proposals, control = perturbed(batch.images, delta), perturbed(batch.images, blind)
    return ThreatProposal(f"{ball}", second, batch, proposals, ball, control, made_on=len(first))


def _patch(request: ThreatRequest) -> ThreatProposal:
    first, second = request.halves()
    if request.settings.area is None:
        raise UsageError("A patch needs an area; give it in the settings of the cell.")
    threat = PatchThreat(request.settings.area)
    made_on, batch = request.batch.select(first), request.batch.select(second)
    targets = min(request.settings.targets, len(request.model.classes))
    label, paint = (
        _best_targeted_patch(request, made_on, threat, targets)
        if targets
        else (None, _make_patch(request, made_on, threat))
    )
    if label is not None:
        elsewhere = (batch.labels != label) & (request.model.predictions(batch.images) != label)
        batch, second = _with_target(batch, label, request).select(elsewhere), second[elsewhere]
    control = threat.painted(
        batch.images, _shared_generator(request, "patch: control").uniform(*request.model.input_shape)
    )
    proposals = threat.painted(batch.images, paint)
    target = "" if label is None else request.model.classes[label]
    words = threat.described(batch.images)
    return ThreatProposal(words, second, batch, proposals, threat, control, made_on=len(first), target=target)


def _best_targeted_patch(
    request: ThreatRequest, made_on: Batch, threat: PatchThreat, targets: int
) -> tuple[int, Images]:
    """Of the patches towards each class, the one that moves most of the images it was made on."""
    best_rate, best = -1.0, (0, made_on.images[:1])
    for label in range(targets):
        if request.context.stopping():
            raise Interrupted("Stopped between two patches; the same command resumes.")
        others = _with_target(made_on, label, request).select(made_on.labels != label)
        paint = _make_patch(request, others, threat)
        moved = float(precise(is_adversarial(request.model, others, threat.painted(others.images, paint))).mean())
        if moved > best_rate:
            best_rate, best = moved, (label, paint)
        request.context.progress(label + 1, targets)
    return best


def _make_patch(request: ThreatRequest, made_on: Batch, threat: PatchThreat) -> Images:
    return patch(request.model, made_on, threat, request.draws(made_on, "patch"), **request.settings.attack)


def _with_target(batch: Batch, label: int, request: ThreatRequest) -> Batch:
    """The same examples, adversarial only when classified as one class."""
    target = torch.zeros(len(batch), len(request.model.classes), dtype=torch.bool, device=batch.labels.device)
    target[:, label] = True
    return replace(batch, adversarial_classes=target)


def _transfer(request: ThreatRequest) -> ThreatProposal:
    evidence = request.context.evidence("surrogate")
    facts = evidence.facts_as(SurrogateFacts)
    surrogate = surrogate_model(evidence, request.model.device)
    index = torch.arange(len(request.batch), device=request.batch.labels.device)
    index = index if facts.elsewhere else request.halves()[1]
    batch, ball = request.batch.select(index), request.ball
    with surrogate.count() as passes:
        proposals = mi_fgsm(
            surrogate, batch, ball, request.draws(batch, "transfer"), steps=TRANSFER_STEPS, to_the_end=True
        )
    return ThreatProposal(
        str(ball),
        index,
        batch,
        proposals,
        ball,
        noisy(batch.images, ball, request.draws(batch, "transfer: control")),
        made_on=facts.taught_on,
        made_by=facts.architecture,
        agreement=facts.agreement,
        surrogate_passes=passes.passes,
    )


def _shared_generator(request: ThreatRequest, purpose: str) -> Generators:
    return Generators.of(["all"], seed=request.cell.seed, purpose=purpose, device=request.model.device)


_THREATS: dict[str, Callable[[ThreatRequest], ThreatProposal]] = {
    "spatial": _spatial,
    "universal": _universal,
    "patch": _patch,
    "transfer": _transfer,
}
