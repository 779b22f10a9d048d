"""What is known of the cost of cells: those in a store, a probe of a few images, and how fast the model is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from audit.core.cell import Cell
from audit.core.pass_count import PassCount
from audit.planning.battery_cost import BatteryOutcomes
from audit.planning.plan import MODEL_STUDIES, Task
from audit.planning.throughput import Throughput

Source = Literal["store", "probe"]
_NO_MATTER = ("eps", "headline", "kept", "on")
"""Settings beside which two cells cost alike: how large the ball is, what is stored, and which images are explained."""


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

    def passes_like(self, task: Task) -> PassCount | None:
        """The passes of cells like it, scaled to its number of examples; None where there are none.

        Args:
            task: A task of a plan.
        """
        alike = self.like(task)
        if not alike:
            return None
        share = len(task.examples) / max(1, sum(cost.examples for cost in alike))
        return PassCount(
            round(share * sum(cost.passes.forwards for cost in alike)),
            round(share * sum(cost.passes.backwards for cost in alike)),
        )

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
        """How much longer a cell takes than its bare passes would, as a factor.

        Told by cells like it, else by those of its study, else by all of them; 1 where there are none.

        Args:
            task: A task of a plan.
        """
        of_study = tuple(cost for cost in self.cells if cost.cell.study == task.cell.study)
        others = tuple(cost for cost in self.cells if cost.cell.study not in MODEL_STUDIES)
        for alike in (self.like(task), of_study, others):
            timed = [(cost.seconds, self.throughput.seconds(cost.passes)) for cost in alike if cost.seconds is not None]
            bare = sum(passes for _, passes in timed)
            if bare > 0:
                return sum(seconds for seconds, passes in timed if passes > 0) / bare
        return 1.0

    def seconds_an_example(self, task: Task) -> float:
        """How long a cell without passes takes an example, by those like it; 0 where that is not known.

        Args:
            task: A task of a plan.
        """
        timed = [cost for cost in self.like(task) if cost.seconds is not None]
        examples = sum(max(1, cost.examples) for cost in timed)
        return sum(cost.seconds or 0.0 for cost in timed) / examples if examples else 0.0


def _question(cell: Cell) -> tuple[str, str, Mapping[str, Any]]:
    settings = {name: value for name, value in cell.settings.items() if name not in _NO_MATTER}
    return cell.study, cell.method, settings
