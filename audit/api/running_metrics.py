"""Metrics that are fed batch by batch, as those of torchmetrics are: `update`, `compute`, `reset`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.api.inputs import AttackTargets
from audit.api.judging import evaluate_attributions
from audit.api.robustness import robustness
from audit.core.errors import UsageError, unknown_name
from audit.core.statistics import Interval, bootstrap_mean, share_of
from audit.core.threat import ThreatModel
from audit.core.types import PassCount
from audit.explanation.spec import TargetClasses
from audit.models.under_test import ModelUnderTest, require_wrapped


class RunningMetric(ABC):
    """The mean over all images of all batches so far.

    A call updates with a batch and gives that batch's value alone, as a call of torchmetrics' metrics does.

    Attributes:
        passes: The cost so far, in images.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every batch."""
        self.passes = PassCount()
        self._batches: list[Mapping[str, Tensor]] = []

    @abstractmethod
    def update(self, *batch: Any, **named: Any) -> None:
        """Take a batch in.

        Args:
            batch: What the metric is about.
            named: Further arguments.
        """

    @abstractmethod
    def compute(self) -> Tensor | dict[str, Tensor]:
        """The value over all batches since the last `reset`.

        Raises:
            UsageError: There was none.
        """

    def __call__(self, *batch: Any, **named: Any) -> Tensor | dict[str, Tensor]:
        """Take a batch in; the value of that batch alone.

        Args:
            batch: As of `update`.
            named: As of `update`.
        """
        self.update(*batch, **named)
        before, self._batches = self._batches, self._batches[-1:]
        try:
            return self.compute()
        finally:
            self._batches = before

    def per_example(self, name: str) -> Tensor:
        """One value an image, in the order they came, float64 (N,) on the CPU.

        Args:
            name: Of the value.

        Raises:
            UsageError: There was no batch, or no such value.
        """
        if not self._batches:
            raise UsageError(f"{type(self).__name__}: nothing was measured yet; call update with a batch first.")
        for batch in self._batches:
            if name not in batch:
                raise unknown_name("value", name, batch)
        return torch.cat([batch[name] for batch in self._batches])

    def _take(self, values: Mapping[str, Tensor], passes: PassCount) -> None:
        self._batches.append({name: value.detach().cpu().double() for name, value in values.items()})
        self.passes += passes


class RobustAccuracyMetric(RunningMetric):
    """The share of images that no attack of a battery broke."""

    def __init__(
        self,
        model: ModelUnderTest,
        threat: ThreatModel,
        *,
        battery: str = "quick",
        attacks: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        """Say what is measured; nothing runs before `update`.

        Args:
            model: The model, from `wrap`.
            threat: The norm and the eps.
            battery: As in `robustness`.
            attacks: As in `robustness`.
            seed: Of all draws.

        Raises:
            UsageError: The model is not wrapped.
        """
        require_wrapped(model)
        self.model, self.threat, self.battery, self.attacks, self.seed = model, threat, battery, attacks, seed
        super().__init__()

    def update(self, images: Any, labels: Any, *, targets: AttackTargets = None) -> None:
        """Attack a batch.

        Args:
            images: Floats (N, C, H, W) in [0, 1].
            labels: Whole numbers (N,).
            targets: As in `robustness`.

        Raises:
            DataError: Images or labels are of the wrong type, shape or range.
        """
        attacked = robustness(
            self.model,
            images,
            labels,
            self.threat,
            battery=self.battery,
            attacks=self.attacks,
            targets=targets,
            seed=self.seed,
        )
        self._take({"robust": attacked.robust}, attacked.passes)

    def compute(self) -> Tensor:
        """The share over all batches, float64 without dimensions.

        Raises:
            UsageError: There was none.
        """
        return self.per_example("robust").mean()

    def interval(self) -> Interval:
        """The share with its 95% interval (Wilson).

        Raises:
            UsageError: There was no batch.
        """
        return share_of(self.per_example("robust").numpy())


class AttributionMetrics(RunningMetric):
    """The scores of `evaluate_attributions`, averaged over batches."""

    def __init__(self, model: ModelUnderTest, *, seed: int = 0) -> None:
        """Say what is measured; nothing runs before `update`.

        Args:
            model: The model that was explained, from `wrap`.
            seed: Of the random orders and noises.

        Raises:
            UsageError: The model is not wrapped.
        """
        require_wrapped(model)
        self.model, self.seed = model, seed
        super().__init__()

    def update(self, images: Any, maps: Any, *, targets: TargetClasses = None, masks: Any = None) -> None:
        """Judge a batch of maps; give masks with every batch, or with none.

        Args:
            images: Floats (N, C, H, W) in [0, 1].
            maps: One map an image, as `evaluate_attributions` takes them.
            targets: The class that was explained.
            masks: Where the object is, true or false (N, H, W).

        Raises:
            DataError: Images, maps or masks are of the wrong type, shape or range.
        """
        judged = evaluate_attributions(self.model, images, maps, targets=targets, masks=masks, seed=self.seed)
        self._take(judged.scores, judged.passes)

    def compute(self) -> dict[str, Tensor]:
        """The mean of each score over all images that have one, float64 without dimensions, by name.

        Raises:
            UsageError: There was no batch, or only some had masks.
        """
        names = list(dict.fromkeys(name for batch in self._batches for name in batch)) or ["deletion_area"]
        return {name: self.per_example(name).nanmean() for name in names}

    def interval(self, name: str) -> Interval:
        """The mean of one score with its 95% interval (BCa bootstrap).

        Args:
            name: Of the score, such as "deletion_area".

        Raises:
            UsageError: There is no such score.
        """
        values = self.per_example(name)
        return bootstrap_mean(values[values.isfinite()].numpy())
