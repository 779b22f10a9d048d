"""Random perturbations as large as allowed: the control every other attack has to beat."""

from __future__ import annotations

from audit.adversarial.active_set import run_search
from audit.adversarial.search_state import SearchState, State, StepResult
from audit.adversarial.targets import PositiveInt
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images, PassCount
from audit.models.losses import is_adversarial_logits
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1902.06705",
    needs="decisions",
    norms=("linf", "l2", "l1"),
    control=True,
    passes=lambda s, shape: PassCount(s["draws"], 0),
    effort=("draws",),
)
def random_noise(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, generators: Generators, *, draws: PositiveInt = 10
) -> Images:
    """Noise of the full norm in random directions: corners for linf, spheres for l2 and l1 (Carlini et al. 2019).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        draws: Directions that are tried.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """

    def start(origin: Images, goal: ClassMask, draws: Generators) -> State:
        return {"images": noisy(origin, threat, draws)}

    def step(slots: SearchState) -> StepResult:
        broken = is_adversarial_logits(model.logits(slots.images), slots.goal)
        following = noisy(slots.origin, threat, slots.generators.fork(slots.age))
        return StepResult(slots.images, broken, {"images": following})

    return run_search(model, batch, generators, start=start, step=step, steps=draws)


def noisy(origin: Images, threat: ThreatModel, generators: Generators) -> Images:
    """Each image with noise of norm eps, then clamped to the box.

    Args:
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
    """
    shape = origin.shape[1:]
    if threat.norm == "linf":
        return (origin + threat.eps * generators.rademacher(*shape)).clamp(0, 1)
    noise = generators.normal(*shape)
    size = norms(noise, threat.norm).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (origin + noise * (threat.eps / size)).clamp(0, 1)
