"""What is known of the cost of cells: those in a store, a probe of a few images, and how fast the model is here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from audit.core.cell import Cell, plain_json
from audit.core.pass_count import PassCount
from audit.planning.battery_cost import BatteryOutcomes
from audit.planning.parts import part_inputs, whole_study
from audit.planning.plan import MODEL_STUDIES, Task
from audit.planning.throughput import Throughput

CostSource = Literal["store", "probe"]
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
    source: CostSource
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

    @property
    def draws(self) -> int:
        """Forwards that attacks took the mean of for each logit; above 1 where a model answers at random."""
        return max((cost.outcomes.draws for cost in self.cells if cost.outcomes is not None), default=1)

    def like(self, task: Task) -> tuple[CellCost, ...]:
        """Costs of the same study and method with the same settings on the same model, whatever the examples and eps.

        Parts cost as the cells that they are joined to.

        Those of the store where there are any: they are of more images. Costs on another model of the run stand in
        where there are none, for what is counted in passes hardly depends on the weights.

        Args:
            task: A task of a plan.
        """
        alike = self._by_question.get(_question(task.cell), [])
        of_model = [cost for cost in alike if cost.cell.model == task.cell.model] or alike
        stored = tuple(cost for cost in of_model if cost.source == "store")
        return stored or tuple(of_model)

    @cached_property
    def _by_question(self) -> Mapping[str, list[CellCost]]:
        """Costs by study, method and settings: a plan and its store may have thousands of cells each."""
        groups: defaultdict[str, list[CellCost]] = defaultdict(list)
        for cost in self.cells:
            groups[_question(cost.cell)].append(cost)
        return groups

    def source(self, task: Task) -> CostSource | None:
        """Where what is known of the cost of a task comes from; None where nothing is known of it.

        Args:
            task: A task of a plan.
        """
        attacked = [cost for cost in self.cells if cost.outcomes is not None and cost.cell.model == task.cell.model]
        alike = self.like(task) or (tuple(attacked) if task.cell.threat is not None else ())
        return alike[0].source if alike else None

    def passes_like(self, task: Task) -> PassCount | None:
        """The passes of cells like it, scaled to its number of examples; None where there are none.

        Args:
            task: A task of a plan.
        """
        largest = max((cost.examples for cost in self.like(task)), default=0)
        alike = [cost for cost in self.like(task) if 2 * cost.examples > largest]
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

    def seconds(self, task: Task, passes: PassCount) -> float:
        """How long a cell takes here.

        Told by cells like it, by what an image more took between the smallest and the largest, where a probe had two
        sizes: what is paid once counts once. Else by the pace of other cells of its study, else of all.

        Args:
            task: A task of a plan.
            passes: What it costs.
        """
        like = self.like(task)
        bare, examples = self.throughput.seconds(passes), max(1, len(task.examples))
        if bare == 0:
            points = [(max(1, cost.examples), cost.seconds) for cost in like if cost.seconds is not None]
            return _line(points).at(examples) if points else 0.0
        if (line := self._line_of(like)) is not None:
            return line.at(bare)
        of_study = [cost for cost in self.cells if whole_study(cost.cell.study) == whole_study(task.cell.study)]
        others = [cost for cost in self.cells if cost.cell.study not in MODEL_STUDIES]
        return bare * (self._pace(of_study) or self._pace(others) or 1.0)

    def _pace(self, costs: Iterable[CellCost]) -> float | None:
        """How many times as long as its bare passes another pass takes, over cells that ask different questions."""
        groups: defaultdict[str, list[CellCost]] = defaultdict(list)
        for cost in costs:
            groups[_question(cost.cell)].append(cost)
        told = [(self._largest(group), line) for group in groups.values() if (line := self._line_of(group)) is not None]
        weight = sum(bare for bare, _ in told)
        return sum(bare * line.slope for bare, line in told) / weight if weight else None

    def _line_of(self, alike: Sequence[CellCost]) -> _Line | None:
        """Seconds by those of the bare passes, from cells that ask one question; None where none was timed here.

        What a probe of one size took beyond its passes is taken to be paid once, as imports are.
        """
        timed = self._timed(alike)
        if len(timed) == 1 and alike[0].source == "probe":
            ((bare, seconds),) = timed
            return _Line(max(0.0, seconds - bare), min(1.0, seconds / bare))
        return _line(timed) if timed else None

    def _largest(self, alike: Sequence[CellCost]) -> float:
        return max((bare for bare, _ in self._timed(alike)), default=0.0)

    def _timed(self, costs: Iterable[CellCost]) -> list[tuple[float, float]]:
        """Seconds of the bare passes, and of the whole, of every cell that was timed here."""
        pairs = [(self.throughput.seconds(cost.passes), cost.seconds) for cost in costs if cost.seconds is not None]
        return [(bare, seconds) for bare, seconds in pairs if bare > 0]


class _Line(NamedTuple):
    """Seconds as a function of size.

    Attributes:
        start: At size 0.
        slope: More, for each unit of size.
    """

    start: float
    slope: float

    def at(self, size: float) -> float:
        """The seconds of a size."""
        return self.start + self.slope * size


def _line(points: Sequence[tuple[float, float]]) -> _Line:
    """Through the smallest and the largest point; through the origin where the two do not rise, or are of one size."""
    (low, first), (high, last) = min(points), max(points)
    if high > 1.5 * low and last > first:
        slope = (last - first) / (high - low)
        return _Line(max(0.0, first - slope * low), slope)
    top = [(size, seconds) for size, seconds in points if size > high / 1.5]
    return _Line(0.0, sum(seconds for _, seconds in top) / sum(size for size, _ in top))


def _question(cell: Cell) -> str:
    settings = {name: value for name, value in cell.settings.items() if name not in _NO_MATTER}
    joins = bool(part_inputs(cell))  # which costs next to nothing
    return json.dumps([whole_study(cell.study), cell.method, settings, joins], sort_keys=True, default=plain_json)
