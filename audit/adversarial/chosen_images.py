"""Which of the unbroken images an attack takes that looks across them: the hardest, or a sample for a control."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from audit.adversarial.battery import AttackSpec
from audit.core.seeding import Generators


def chosen_images(entry: AttackSpec, survivors: Tensor, margin: Tensor, ids: Sequence[str], seed: int) -> Tensor:
    """The images that an attack runs on.

    Args:
        entry: The attack.
        survivors: Positions of the images not yet broken, int64, ascending.
        margin: How near attacks came to breaking each image, (N,), as `WorstCase.margin`.
        ids: Names of all N images.
        seed: Root of the random draws.

    Returns:
        Positions among `survivors`, int64, ascending.
    """
    if entry.control_sample:
        return _sample(survivors, entry.control_sample, ids, seed)
    return _hardest(survivors, entry.hardest_fraction, margin)


def _hardest(survivors: Tensor, share: float, margin: Tensor) -> Tensor:
    """The images that attacks have come nearest to breaking; at least one where there is any."""
    count = max(1, round(share * len(survivors)))
    if count >= len(survivors):
        return survivors
    return survivors[margin[survivors].argsort(descending=True, stable=True)[:count].sort().values]


def _sample(survivors: Tensor, size: int, ids: Sequence[str], seed: int) -> Tensor:
    """`size` of the images, drawn by their ids so that order does not matter."""
    if size >= len(survivors):
        return survivors
    drawn = [ids[i] for i in survivors.tolist()]
    draws = Generators.of(drawn, seed=seed, purpose="control: sample", device="cpu")
    selected = draws.uniform(1).flatten().argsort(stable=True)[:size].sort().values
    return survivors[selected.to(survivors.device)]
