"""Threats other than a norm ball around each image: poses, one change for all images, transferred attacks.

Each is reported on its own and enters no worst case, since what an adversary may do differs between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from audit.adversarial.eot import eot_if_stochastic
from audit.adversarial.gradient_reach import gradients_over_flat_faces
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.verify import verify
from audit.attacks.mi_fgsm import mi_fgsm
from audit.attacks.patch import PatchThreat
from audit.attacks.random_noise import noisy
from audit.attacks.spatial import PosedThreat, SpatialThreat, apply_pose, spatial
from audit.attacks.universal import perturbed, universal
from audit.core.cell import Cell
from audit.core.errors import Interrupted, UsageError, unknown_name
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.planning.parts import part_inputs
from audit.topics.other_threats.facts import (
    BY_IMAGE,
    TRANSFER_STEPS,
    OtherThreatsFacts,
    OtherThreatsSettings,
    PatchFacts,
)
from audit.topics.other_threats.patches import (
    TargetedPatch,
    best_patch,
    best_targeted_patch,
    make_patch,
    patch_threat,
    with_target,
)
from audit.topics.other_threats.proposal import ThreatProposal, ThreatRequest
from audit.topics.surrogate.facts import SurrogateFacts
from audit.topics.surrogate.study import surrogate_model


@study()
def other_threats(context: Context, cell: Cell) -> Evidence:
    """How many images withstand `cell.method`: spatial, universal, patch or transfer.

    Settings and facts: see `OtherThreatsSettings` and `OtherThreatsFacts`. `cell.threat` is the ball of universal and
    transfer; the latter needs the input "surrogate". Inputs "part FIRST", where there are any, are evidence of
    `other_threats_part`, which this joins. Measurement `withstood`: 1 where the image was right and still is,
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
    if cell.method in BY_IMAGE and (parts := part_inputs(cell)):
        return _joined(cell, [context.evidence(name) for name in parts])
    return _measured(context, cell)


@study()
def other_threats_part(context: Context, cell: Cell) -> Evidence:
    """A part of `other_threats`: a threat to each image by itself on some of the images, or the best of the patches
    towards some of the classes.

    Settings: see `OtherThreatsSettings`. Evidence: of images that of `other_threats`; of patches the array `paint`
    float32 (1, C, H, W) and `PatchFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    if context.stopping():
        raise Interrupted(f"Stopped before {cell.method}; the same command resumes.")
    if cell.method in BY_IMAGE:
        return _measured(context, cell)
    return _best_of_some(context, cell)


def _best_of_some(context: Context, cell: Cell) -> Evidence:
    """The best of the patches towards the classes of a part."""
    model = context.model()
    batch = context.batch().to(model.device)
    request = ThreatRequest(context, cell, model, batch)
    with (
        model.count() as counter,
        eot_if_stochastic(model, batch.images, cell.seed),
        gradients_over_flat_faces(model, request.norm),
    ):
        made_on, labels = batch.select(request.halves()[0]), request.settings.classes or (0, len(model.classes))
        best = best_targeted_patch(request, made_on, patch_threat(request), range(*labels))
    arrays, facts = {_PAINT: best.paint.cpu().numpy()}, PatchFacts(label=best.label, moved=best.moved)
    return measured_evidence(cell, arrays=arrays, facts=facts, passes=counter.passes)


def _found_in(part: Evidence) -> TargetedPatch:
    facts = part.facts_as(PatchFacts)
    return TargetedPatch(facts.label, facts.moved, torch.from_numpy(part.arrays[_PAINT].copy()))


def _joined(cell: Cell, parts: Sequence[Evidence]) -> Evidence:
    """What a threat to each image by itself did to all images."""
    facts = [part.facts_as(OtherThreatsFacts) for part in parts]
    total = {
        name: sum(getattr(of_part, name) for of_part in facts) for name in ("scored", "right", "control", "faults")
    }
    withstood = [part.measurement(_WITHSTOOD).per_example for part in parts]
    return measured_evidence(
        cell,
        (Measurement(_WITHSTOOD, "share", "higher", np.concatenate(withstood)),),
        facts=facts[0].model_copy(update={**total, "draws": max(of_part.draws for of_part in facts)}),
    )


def _measured(context: Context, cell: Cell) -> Evidence:
    model = context.model()
    batch = context.batch().to(model.device)
    request = ThreatRequest(context, cell, model, batch)
    with model.count() as counter, eot_if_stochastic(model, batch.images, cell.seed) as draws:
        with gradients_over_flat_faces(model, request.norm):
            proposal = _THREATS[cell.method](request)
        verdicts = verify(model, proposal.batch, proposal.proposals, proposal.bounds)
        wrong = is_adversarial(model, proposal.batch, proposal.batch.images)
        blind = is_adversarial(model, proposal.batch, proposal.control)
    withstood = np.full(len(request.batch), np.nan)
    withstood[proposal.index.cpu().numpy()] = (~verdicts.broken & ~wrong).cpu().double().numpy()
    return measured_evidence(
        cell,
        (Measurement(_WITHSTOOD, "share", "higher", withstood),),
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
    made_on, batch, threat = request.batch.select(first), request.batch.select(second), patch_threat(request)
    targets = min(request.settings.targets, len(request.model.classes))
    if targets:
        parts = [_found_in(request.context.evidence(name)) for name in part_inputs(request.cell)]
        best = best_patch(parts) if parts else best_targeted_patch(request, made_on, threat, range(targets))
        target, paint = request.model.classes[best.label], best.paint.to(request.model.device)
        elsewhere = (batch.labels != best.label) & (request.model.predictions(batch.images) != best.label)
        batch, second = with_target(batch, best.label, len(request.model.classes)).select(elsewhere), second[elsewhere]
    else:
        target, paint = "", make_patch(request, made_on, threat)
    control = threat.painted(
        batch.images, _shared_generator(request, "patch: control").uniform(*request.model.input_shape)
    )
    proposals = threat.painted(batch.images, paint)
    words = threat.described(batch.images)
    return ThreatProposal(words, second, batch, proposals, threat, control, made_on=len(first), target=target)


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


_PAINT, _WITHSTOOD = "paint", "withstood"
_THREATS: dict[str, Callable[[ThreatRequest], ThreatProposal]] = {
    "spatial": _spatial,
    "universal": _universal,
    "patch": _patch,
    "transfer": _transfer,
}
