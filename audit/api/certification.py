"""`audit.certify`: each image broken, proven safe, or open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.adversarial.verify import verify
from audit.adversarial.worst_case import radius
from audit.api.inputs import AttackTargets, make_batch
from audit.api.robustness import robustness
from audit.bounds.outcome import Budget, Outcome
from audit.bounds.prover import Prover
from audit.core.errors import ModelError, NotApplicable, UsageError
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS
from audit.core.types import PassCount
from audit.models.ambient_torch import in_plain_torch
from audit.models.under_test import ModelUnderTest


@dataclass(frozen=True)
class Certification:
    """What is known of each image under a threat model.

    Attributes:
        threat: The threat model.
        verdict: By image: "broken" (an image of the ball is misclassified), "proven" (none is) or "open".
        adversarial: The images that break the model, float32 (N, C, H, W); the clean ones where none was found.
        proven_by: By image, the bound that proved it, such as "crown" or "branch-and-bound"; None where none did.
        bound: By image, the smallest lower bound of the label's margin that was reached, in logits, float64 (N,); minus
            infinity where no bound was needed.
        seconds: By image, the seconds that bounds took.
        passes: Forwards and backwards of attacks and bounds: a pass of intervals counts as two forwards an image, one
            of linear bounds as one backward a class.
    """

    threat: ThreatModel
    verdict: list[str]
    adversarial: Tensor
    proven_by: list[str | None]
    bound: Tensor
    seconds: list[float]
    passes: PassCount


@in_plain_torch
def certify(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    targets: AttackTargets = None,
    seconds_per_image: float = 60.0,
    seed: int = 0,
) -> Certification:
    """Attack every image, then prove that no image of the ball breaks the rest, from cheap bounds to branch and bound.

    A proof holds for the model's evaluation in float32 by direct summation in whatever order, for every image in [0, 1]
    within the threat model up to the tolerance of the verifier.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        threat: The norm and the eps.
        targets: As in `robustness`: the predictions that count as broken.
        seconds_per_image: Seconds that bounds may take an image; what is not decided by then is open. Above 0.
        seed: Of the draws of the attacks.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: A target is its image's label, there are no seconds, or the norm is l0.
        ModelError: The model holds an operation that bounds have no rule for; it is named.
    """
    if threat.norm not in CONVEX_NORMS:
        raise UsageError(f"Bounds exist for {', '.join(CONVEX_NORMS)}, not for {threat.norm}: give one of them.")
    if not seconds_per_image > 0:
        raise UsageError(f"seconds_per_image is {seconds_per_image!r}, where a number above 0 was expected.")
    batch = make_batch(model, images, labels, targets)
    try:
        prover = Prover(model)
        prover.check_agreement(model.check_images(batch.images))
    except NotApplicable as fault:
        raise ModelError(str(fault)) from fault
    attacked = robustness(model, batch.images, batch.labels, threat, battery="standard", targets=targets, seed=seed)
    robust = attacked.robust.to(model.device)
    outcomes = [Outcome("broken") for _ in range(len(batch))]
    adversarial = attacked.adversarial.clone()
    left = robust.nonzero().flatten().to(batch.images.device)
    if len(left):
        rest = batch.select(left)
        proven = prover.prove(
            model.check_images(rest.images),
            model.predictions(rest.images),
            rest.target_mask(len(model.classes)).to(model.device),
            threat.norm,
            radius(threat),
            Budget(problems=2**40, seconds=seconds_per_image),
        )
        for index, outcome in zip(left.tolist(), proven, strict=True):
            outcomes[index] = outcome
            if outcome.adversarial is not None:
                one = batch.select(torch.tensor([index], device=batch.labels.device))
                verdict = verify(model, one, outcome.adversarial[None].float(), threat)
                adversarial[index] = verdict.images[0].to(adversarial)
                if not bool(verdict.broken):
                    outcomes[index] = Outcome("open", bound=outcome.bound, seconds=outcome.seconds)
    return Certification(
        threat,
        [o.verdict for o in outcomes],
        adversarial,
        [o.rung if o.verdict == "proven" else None for o in outcomes],
        torch.tensor([o.bound for o in outcomes], dtype=torch.float64),
        [o.seconds for o in outcomes],
        attacked.passes + prover.passes,
    )
