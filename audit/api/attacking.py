"""`audit.attack`: one attack on images, judged by the verifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from audit.adversarial.propose import propose
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.result import unfit_reason
from audit.adversarial.targets import check_examples
from audit.adversarial.verify import verify
from audit.api.inputs import AttackTargets, given_image_notes, make_batch
from audit.core.errors import NotApplicable, SetupError, UsageError
from audit.core.note import NO_NOTE
from audit.core.precise import precise
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Images, PassCount
from audit.metrics.model_checks import doubts
from audit.models.ambient_torch import in_plain_torch
from audit.models.autotune import tune_execution
from audit.models.batching import is_out_of_memory
from audit.models.under_test import ModelUnderTest


@dataclass(frozen=True)
class AdversarialExamples:
    """What one attack proposes for N images, and the verifier's judgement of it.

    The verifier brings each proposal back into the ball and the box, asks the model again and measures the distance.

    Attributes:
        method: The name of the attack.
        settings: All of its settings.
        threat: The threat model.
        images: The proposals as judged, float32 (N, C, H, W) in [0, 1]; the unchanged image where its prediction counts
            as broken already.
        broken: Whether the model's prediction on the proposal counts as broken, bool (N,).
        broken_unchanged: Whether that of the unchanged image does, bool (N,); the attack is not run on those.
        distance: From the unchanged image, in the norm, float64 (N,).
        survives_rounding: Whether the proposal breaks the model as an 8-bit picture too, bool (N,).
        faults: Proposals that had left the ball or the box, or were not finite: the attack's fault, bool (N,).
        margin: The highest logit of a class that counts as broken less the highest of any other, float32 (N,).
        passes: The cost of the attack and of the judgement, in images.
        inconclusive: Why the evidence is weak; empty when it is not.
        notes: How the model was read where that is not plain.
    """

    method: str
    settings: Mapping[str, Any]
    threat: ThreatModel
    images: Images
    broken: Tensor
    broken_unchanged: Tensor
    distance: Tensor
    survives_rounding: Tensor
    faults: Tensor
    margin: Tensor
    passes: PassCount
    inconclusive: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def success_rate(self) -> float:
        """The share that the attack broke of the images that were not broken unchanged; NaN where all were."""
        return float(precise(self.broken[~self.broken_unchanged]).mean())


@in_plain_torch
def attack_images(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    method: str = "apgd-ce",
    targets: AttackTargets = None,
    seed: int = 0,
    **settings: Any,
) -> AdversarialExamples:
    """Run one attack on every image; the verifier decides whether an image is broken.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        threat: The norm and the eps.
        method: The name of an attack bound by the ball of a norm, such as "apgd-ce", "square" or "carlini-wagner".
        targets: As in `robustness`: the predictions that count as broken.
        seed: Of all draws, which also follow the bytes of each image, never the batch.
        **settings: The attack's settings, such as steps=50; `audit methods attack` lists them.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: There is no such attack or setting, the attack does not exist for the norm, has no meaning for the
            model, or a target is its image's label.
        AuditError: The attack failed; the sentence names it.
        SetupError: It ran out of memory for what it holds of its images.
    """
    registered = find("attack", method)
    checked = registered.settings(settings)
    if reason := unfit_reason(registered, threat, NO_NOTE):
        raise UsageError(f"Attack {registered.name} cannot run under {threat}: {reason}")
    batch = make_batch(model, images, labels, targets)
    check_examples(model, batch)
    tune_execution(model)
    with model.count() as counter:
        reasons = doubts(model, batch, seed, "attacks")
        unchanged = is_adversarial(model, batch, batch.images)
        index = (~unchanged).nonzero().flatten().to(batch.images.device)
        proposals = batch.images.clone()
        if len(index):
            rest = batch.select(index)
            draws = Generators.of(rest.ids, seed=seed, purpose=f"attack {registered.name}", device=batch.images.device)
            try:
                proposed = propose(registered, model, rest, threat, draws, checked)
            except NotApplicable as fault:
                raise UsageError(f"Attack {registered.name} does not apply here: {fault.reason}") from fault
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault):
                    raise
                raise SetupError(
                    f"Attack {registered.name} ran out of memory for what it holds of {len(index)} images beside the "
                    "model: give it fewer at a time."
                ) from fault
            proposals[index] = proposed.detach().to(proposals)
        verdicts = verify(model, batch, proposals, threat)
    return AdversarialExamples(
        method=registered.name,
        settings=checked,
        threat=threat,
        images=verdicts.images,
        broken=verdicts.broken,
        broken_unchanged=unchanged,
        distance=verdicts.distance,
        survives_rounding=verdicts.survives_rounding,
        faults=verdicts.faults,
        margin=verdicts.margin,
        passes=counter.passes,
        inconclusive=tuple(map(str, dict.fromkeys(reasons))),
        notes=(*given_image_notes(images), *map(str, model.notes)),
    )
