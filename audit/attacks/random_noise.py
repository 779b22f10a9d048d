"""Random perturbations as large as allowed: the control every other attack has to beat."""

from __future__ import annotations

from audit.attacks.steps import Count
from audit.models.under_test import ModelUnderTest
from audit.passes.active import Move, Slots, State, search
from audit.passes.losses import violated
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel, norms
from audit.types import Batch, ClassMask, Images


@attack(reference="arXiv:1902.06705", needs="decisions", norms=("linf", "l2", "l1"), control=True)
def random_noise(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, generators: Generators, *, draws: Count = 10
) -> Images:
    """Noise of the full norm in random directions: corners for linf, spheres for l2 and l1 (Carlini et al. 2019)."""

    def start(origin: Images, goal: ClassMask, draw: Generators) -> State:
        return {"images": noisy(origin, threat, draw)}

    def step(slots: Slots) -> Move:
        broken = violated(model.logits(slots.images), slots.goal)
        following = noisy(slots.origin, threat, slots.generators.fork(slots.age))
        return Move(slots.images, broken, {"images": following})

    return search(model, batch, generators, start=start, step=step, steps=draws)


def noisy(origin: Images, threat: ThreatModel, generators: Generators) -> Images:
    """Each image with noise of norm eps, then clamped to the box."""
    shape = origin.shape[1:]
    if threat.norm == "linf":
        return (origin + threat.eps * generators.signs(*shape)).clamp(0, 1)
    noise = generators.normal(*shape)
    size = norms(noise, threat.norm).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (origin + noise * (threat.eps / size)).clamp(0, 1)
