"""The worst case so far of a battery: the nearest verified adversarial example of each image, and which attack broke it
first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.restarts import is_adversarial
from audit.adversarial.verify import Verdicts, verify
from audit.core.precise import precise_device
from audit.core.threat import TOLERANCE, ThreatModel
from audit.core.types import Batch, PassCount
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint

_STORED = {
    "distance": "distance",
    "nearest": "nearest",
    "rounding": "rounding",
    "margin": "margin",
    "headline_margin": "headline_margin",
    "finder": "best_attack",
    "first_broken_by": "first_broken_by",
}
"""By the name in a checkpoint, the attribute."""


class WorstCase:
    """The nearest adversarial example of each image so far, opened with the clean predictions; only verdicts enter.

    Attributes:
        clean_broken: Whether the clean prediction counts as broken, bool (N,).
        distance: Of the nearest adversarial example, float64 (N,): 0 where the clean image is broken, inf where none.
        nearest: The images at that distance, clean where there is none, (N, C, H, W).
        rounding: Whether they still break as 8-bit pictures, bool (N,).
        margin: The largest margin of any proposal, (N,): how near an image is to breaking.
        headline_margin: The largest margin of the clean image and of the proposals within the eps of the verdict, (N,).
        best_attack: Whose example is the nearest, an index into `attacks`, -1 for none, int64 (N,).
        first_broken_by: Which attack broke it first at each eps, as above, int64 (E, N).
    """

    def __init__(
        self,
        model: ModelUnderTest,
        batch: Batch,
        threats: tuple[ThreatModel, ...],
        attacks: tuple[str, ...],
        headline: ThreatModel,
    ) -> None:
        self.model, self.batch, self.threats, self.attacks, self.headline = model, batch, threats, attacks, headline
        device = precise_device(batch.labels.device)
        goal = batch.target_mask(len(model.classes)).to(model.device)
        logits = model.logits(batch.images)
        self.clean_broken = is_adversarial_logits(logits, goal).to(device)
        self.distance = torch.full((len(batch),), float("inf"), dtype=torch.float64, device=device)
        self.distance[self.clean_broken] = 0
        self.nearest = batch.images.detach().to(device, copy=True)
        self.rounding = self.clean_broken.clone()
        self.margin = torch.full((len(batch),), -torch.inf, device=device)
        self.headline_margin = margin(logits, goal).to(device)
        self.best_attack = torch.where(self.clean_broken, 0, -1)
        self.first_broken_by = self.best_attack.repeat(len(threats), 1)

    def state(self) -> dict[str, Tensor]:
        """Everything so far, by name."""
        return {stored: getattr(self, name) for stored, name in _STORED.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave, or a part of it.

        Args:
            state: By name.
        """
        for stored in state:
            setattr(self, _STORED[stored], state[stored].to(self.distance.device, copy=True))

    def robust_indices(self, threat: ThreatModel) -> Tensor:
        """Positions of the images not yet broken within `threat`, int64.

        Args:
            threat: The norm and eps of the ball.
        """
        return (self.distance > radius(threat)).nonzero().flatten()

    def survived(self) -> Tensor:
        """Unbroken at each eps, bool (E, N)."""
        return torch.stack([self.distance > radius(threat) for threat in self.threats])

    def update(self, attack: str, index: Tensor, verdicts: Verdicts) -> int:
        """Take in the verdicts on an attack's proposals; the number broken.

        Args:
            attack: The attack's name, one of `attacks`.
            index: Positions of the images, int64.
            verdicts: One an image.
        """
        device = self.distance.device
        broken, distance = verdicts.broken.to(device), verdicts.distance.to(device)
        index = index.to(device)
        better = broken & (distance < self.distance[index])
        improved = index[better]
        number = self.attacks.index(attack)
        for row, threat in enumerate(self.threats):
            newly = improved[(self.distance[improved] > radius(threat)) & (distance[better] <= radius(threat))]
            self.first_broken_by[row, newly] = number
        self.margin[index] = torch.maximum(self.margin[index], verdicts.margin.to(device))
        within, largest = distance <= radius(self.headline), self.headline_margin[index]
        self.headline_margin[index] = largest.where(~within, torch.maximum(largest, verdicts.margin.to(device)))
        self.distance[improved] = distance[better]
        self.nearest[improved] = verdicts.images[better.to(verdicts.images.device)].to(device)
        self.rounding[improved] = verdicts.survives_rounding.to(device)[better]
        self.best_attack[improved] = number
        return int(broken.sum())

    def refine(self, bisections: int) -> None:
        """Move each adversarial example towards its clean image as long as it breaks; the attack that made it keeps the
        credit.

        Args:
            bisections: Halvings of the way.
        """
        index = (self.distance.isfinite() & (self.distance > 0)).nonzero().flatten()
        if bisections == 0 or len(index) == 0:
            return
        subset = self.batch.select(index)
        far = self.nearest[index]
        origin = subset.images.to(far.device)
        low, high = (
            torch.zeros(len(subset), 1, 1, 1, device=far.device),
            torch.ones(len(subset), 1, 1, 1, device=far.device),
        )
        for _ in range(bisections):
            middle = (low + high) / 2
            broken = (
                is_adversarial(self.model, subset, origin + middle * (far - origin)).view(-1, 1, 1, 1).to(far.device)
            )
            low, high = torch.where(broken, low, middle), torch.where(broken, middle, high)
        verdicts = verify(self.model, subset, origin + high * (far - origin), self.threats[-1])
        for number in sorted(set(self.best_attack[index].tolist())):
            by_attack = self.best_attack[index] == number
            self.update(self.attacks[number], index[by_attack], verdicts.select(by_attack))


def radius(threat: ThreatModel) -> float:
    """The largest distance that counts as within `threat`: eps and the slack of float32 rounding.

    Args:
        threat: The norm and eps of the ball.
    """
    return threat.eps * (1 + TOLERANCE) + TOLERANCE


class BatteryCheckpoint:
    """How far a battery has come, kept so that a kill loses one attack run at most.

    Where `unfinished` holds an earlier state, the worst case is set to it and the model is charged with its cost.

    Attributes:
        worst_case: What the attack runs so far led to.
        passes_so_far: What the models have cost so far, when called.
        unfinished: Where everything is kept; None keeps nothing.
        rows: What each attack run did, those of `unfinished` first.
    """

    def __init__(
        self, worst_case: WorstCase, passes_so_far: Callable[[], PassCount], unfinished: CellCheckpoint | None
    ) -> None:
        self.worst_case, self.passes_so_far, self.unfinished = worst_case, passes_so_far, unfinished
        self.rows: list[AttackResult] = []
        self._begun = passes_so_far()
        stored = None if unfinished is None else unfinished.load()
        if stored is not None and stored[0].keys() >= _STORED.keys():  # an earlier version kept less
            state, facts = stored
            worst_case.restore(state)
            self.rows = [_row_from_json(row) for row in facts["rows"]]
            worst_case.model.charge(PassCount(**facts["passes"]))

    def add(self, row: AttackResult) -> None:
        """Enter the row; everything is kept when that is due.

        Args:
            row: What an attack did.
        """
        self.rows.append(row)
        if self.unfinished is not None and self.unfinished.is_due:
            self.keep()

    def keep(self) -> None:
        """Keep everything so far, where there is a place for it."""
        if self.unfinished is not None:
            facts = {"rows": self.rows, "passes": asdict(self.passes_so_far() - self._begun)}
            self.unfinished.save(self.worst_case.state(), facts)


def _row_from_json(row: dict[str, Any]) -> AttackResult:
    passes = row.pop("passes", {})  # as an earlier version wrote the cost
    return AttackResult.model_validate({**row, **passes})
