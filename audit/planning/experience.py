"""What is known of the cost of cells: those in a store, a probe of a few images, and how fast the model is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from audit.core.cell import Cell
from audit.core.pass_count import PassCount
from audit.planning.battery_cost import BatteryOutcomes
from audit.planning.plan import Task
from audit.planning.throughput import Throughput

Source = Literal["store", "probe"]
_OF_THE_THREAT = ("eps", "headline", "kept", "threat")
"""Settings of a cell beside which two cells are alike: how large the ball is, and what is stored."""


@dataclass(frozen=True)
class CellCost:
    """What a cell cost where it was computed.

    Attributes:
        cell: The cell.
        examples: Its number of examples.
        passes: What it cost.
        seconds: How long it took here; None where it ran on another machine or device.
        source: Where it was computed.
        outcomes: What attacks did to its examples, of a cell of attacks.
    """

    cell: Cell
    examples: int
    passes: PassCount
    seconds: float | None
    source: Source
    outcomes: BatteryOutcomes | None = None


@dataclass(frozen=True)
class Experience:
    """What the expected cost of a plan rests on.

    Attributes:
        throughput: How long passes take here.
        cells: What other cells cost, those of the store before those of a probe.
        probed: Number of images that were probed; 0 where none were.
        adversarial: By the identity of a model that the run makes, whether it is trained against an adversary.
    """

    throughput: Throughput
    cells: tuple[CellCost, ...] = ()
    probed: int = 0
    adversarial: Mapping[str, bool] = field(default_factory=dict)

    def like(self, task: Task) -> tuple[CellCost, ...]:
        """Costs of the same study and method with the same settings on the same model, whatever the examples and eps.

        Those of the store where there are any: they are of more images. Costs on another model of the run stand in
        where there are none, for what is counted in passes hardly depends on the weights.

        Args:
            task: A task of a plan.
        """
        alike = [cost for cost in self.cells if _question(cost.cell) == _question(task.cell)]
        of_model = [cost for cost in alike if cost.cell.model == task.cell.model] or alike
        stored = tuple(cost for cost in of_model if cost.source == "store")
        return stored or tuple(of_model)

    def outcomes(self, model: str) -> BatteryOutcomes:
        """What attacks did to images of a model so far; what is usual where none were attacked.

        Args:
            model: The model's identity, as `Cell.model` holds it.
        """
        attacked = [cost for cost in self.cells if cost.outcomes is not None and cost.cell.model == model]
        stored = [cost for cost in attacked if cost.source == "store"]
        parts = [cost.outcomes for cost in stored or attacked if cost.outcomes is not None]
        if parts:
            return BatteryOutcomes.joined(parts)
        return BatteryOutcomes.usual(hardened=self.adversarial.get(model, False))

    def pace(self, task: Task) -> float:
        """How much longer a cell takes than its bare passes would, as a factor; 1 where that is not known.

        Args:
            task: A task of a plan.
        """
        for alike in (self.like(task), self._of_study(task.cell)):
            timed = [(cost.seconds, self.throughput.seconds(cost.passes)) for cost in alike if cost.seconds is not None]
            bare = sum(passes for _, passes in timed)
            if bare > 0:
                return sum(seconds for seconds, _ in timed) / bare
        return 1.0

    def seconds_an_example(self, task: Task) -> float:
        """How long a cell without passes takes an example, by those like it; 0 where that is not known.

        Args:
            task: A task of a plan.
        """
        timed = [cost for cost in self.like(task) if cost.seconds is not None]
        examples = sum(max(1, cost.examples) for cost in timed)
        return sum(cost.seconds or 0.0 for cost in timed) / examples if examples else 0.0

    def _of_study(self, cell: Cell) -> tuple[CellCost, ...]:
        return tuple(cost for cost in self.cells if cost.cell.study == cell.study)


def _question(cell: Cell) -> tuple[str, str, Mapping[str, Any]]:
    settings = {name: value for name, value in cell.settings.items() if name not in _OF_THE_THREAT}
    return cell.study, cell.method, settings
