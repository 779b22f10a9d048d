"""Building a plan: tasks are added one by one, each after those it depends on."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from audit.adversarial.batteries import battery_named
from audit.adversarial.battery import AttackSpec, Battery, require_norm
from audit.adversarial.custom_battery import custom_battery
from audit.config import RunConfig
from audit.core.cell import Cell
from audit.core.errors import SetupError
from audit.core.registry import Kind, Method, find, methods
from audit.core.topic import topic_of, topics
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity, headline_eps

EXAMPLES_PER_CELL = 500
"""Most examples in a cell, unless `chunk` of the configuration says fewer: small beside a run, as a killed process
loses its cell, and large beside a batch."""
FIRST_LOOK = 64
"""Least examples in the first step of a study that may stop early: a batch, and enough to tell 20% from 50%."""


@dataclass(frozen=True)
class ModelRef:
    """A model of the run.

    Attributes:
        role: Its role, such as "standard", "hardened" or "compressed".
        identity: Its identity, as `Cell.model` holds it.
        task: The task that makes it; None for a model that was loaded.
    """

    role: str
    identity: str
    task: Task | None = None

    @property
    def wave(self) -> int:
        """The first wave in which the model is available."""
        return self.task.wave + 1 if self.task else 0


@dataclass
class PlanBuilder:
    """Collects the tasks of a plan.

    Attributes:
        config: The configuration of the run.
        identity: Identities and sizes of the data and the model.
        tasks: The tasks planned so far.
    """

    config: RunConfig
    identity: RunIdentity
    tasks: list[Task] = field(default_factory=list)

    @cached_property
    def battery(self) -> Battery:
        """The battery of the configuration.

        Raises:
            UsageError: It is unknown, or none of its attacks applies to the norm.
        """
        configured = self.config.robustness.battery
        if isinstance(configured, str):
            battery = battery_named(configured)
        else:
            battery = custom_battery(
                [
                    AttackSpec(row.attack, row.settings, row.title, row.sample, row.hardest, row.transferred)
                    for row in configured
                ]
            )
        require_norm(battery, self.config.robustness.norm)
        return battery

    @property
    def explained(self) -> Slice:
        """The images that are explained: the first of the audit order, within the first cell of attacks."""
        return explained_examples(self.config, self.identity.test_examples)

    def chunks(self, examples: int, size: int | None = None) -> list[Slice]:
        """Split the first examples of the audit order into cells.

        Args:
            examples: How many, at most; fewer where the test set is smaller.
            size: Most examples in a cell; those of the configuration by default.
        """
        size = size or self.config.chunk
        total = min(examples, self.identity.test_examples)
        return [Slice("test", start, min(start + size, total)) for start in range(0, total, size)]

    def growing_chunks(self, study: str, examples: int, size: int = EXAMPLES_PER_CELL) -> list[Slice]:
        """Split the first examples of the audit order into steps, after each of which the study may stop.

        The first holds what other topics read of it (`Topic.first_images`), and from step to step the examples so far
        grow by a half. Under the rule "all" there are as many in each. How many are in a cell has no part in it.

        Args:
            study: Name of the study.
            examples: How many, at most; fewer where the test set is smaller.
            size: Most examples in a step.
        """
        keys = (topic.first_images[study] for topic in topics() if study in topic.first_images)
        read = max((int(operator.attrgetter(key)(self.config)) for key in keys), default=0)
        total, stops = min(examples, self.identity.test_examples), [0]
        first = max(size, min(read, EXAMPLES_PER_CELL))
        if self.config.stop == "all":
            rest = range(first, total, size)
            return [Slice("test", start, stop) for start, stop in pairwise([*sorted({0, *rest}), total])]
        while (rest_of := total - stops[-1]) > 0:
            step = min(max(FIRST_LOOK, read), first) if len(stops) == 1 else min(stops[-1] // 2, size)
            stops.append(total if rest_of < 1.5 * step and rest_of <= size else stops[-1] + min(step, rest_of))
        return [Slice("test", start, stop) for start, stop in pairwise(stops)]

    def add(
        self,
        study: str,
        method: str,
        model: ModelRef,
        examples: Slice,
        *,
        settings: Mapping[str, Any] | None = None,
        version: str = "1",
        threat: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Task] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Task:
        """Plan a cell, in the first wave after its model and its inputs.

        Args:
            study: Name of the study.
            method: Name of the method.
            model: The model it runs on.
            examples: The examples it runs on.
            settings: Settings, as JSON values.
            version: Version of the method; that of the study is added.
            threat: The threat model as {"norm", "eps"}; None without one.
            inputs: By name, the tasks whose evidence it reads.
            context: What the study needs besides and the key leaves out, see `Task.context`.

        Returns:
            The task.

        Raises:
            SetupError: No topic lists the study.
        """
        if topic_of(study) is None:
            raise SetupError(
                f"The study {study!r} belongs to no topic, so nothing would show what it measures: list it in "
                "`studies` of the topic that plans it."
            )
        inputs = inputs or {}
        fingerprint = self.identity.test if examples.split == "test" else f"{self.identity.train}{_order(examples)}"
        cell = Cell(
            study=study,
            method=method,
            version=f"{find('study', study).version}/{version}",
            settings=settings or {},
            model=model.identity,
            examples=f"{fingerprint}:{self.config.seed}:{examples.start}-{examples.stop}" if len(examples) else "",
            seed=self.config.seed,
            threat=threat,
            inputs={name: task.cell.key for name, task in inputs.items()},
        )
        wave = max([model.wave, *(task.wave + 1 for task in inputs.values())])
        task = Task(cell, model.role, examples, wave, context or {})
        self.tasks.append(task)
        return task

    def planned(self, study: str, role: str, method: str | None = None) -> tuple[Task, ...]:
        """The tasks of a study planned so far, in order.

        Args:
            study: Name of the study.
            role: The model's role, such as "standard".
            method: Only those of this method; None for all.
        """
        return tuple(
            task
            for task in self.tasks
            if task.cell.study == study and task.role == role and method in (None, task.cell.method)
        )

    @property
    def threat(self) -> dict[str, Any]:
        """The threat model of the verdict, as a cell holds it: norm and eps."""
        return {"norm": self.config.robustness.norm, "eps": headline_eps(self.config, self.identity)}

    def metric_cells(self, study: str, metric: str, model: ModelRef, chunks: Iterable[Slice]) -> None:
        """Plan cells of a study that runs one registered metric at its default settings.

        Args:
            study: Name of the study.
            metric: Name of the metric.
            model: The model it runs on.
            chunks: The examples of each cell.
        """
        method = find("metric", metric)
        for chunk in chunks:
            self.add(study, method.name, model, chunk, settings=method.settings(), version=method.full_version)


def explained_examples(config: RunConfig, test_examples: int) -> Slice:
    """The images that are explained: the first of the audit order, within the first cell of attacks.

    Args:
        config: The configuration of the run.
        test_examples: Number of test images.
    """
    count = min(config.explanations.examples, config.robustness.examples)
    return Slice("test", 0, min(count, EXAMPLES_PER_CELL, test_examples))


def _order(examples: Slice) -> str:
    """A suffix that distinguishes training images in another order from those in the order of the file."""
    return "" if examples.split == "train" else f":{examples.split}"


def select_methods(kind: Kind, names: tuple[str, ...]) -> tuple[Method, ...]:
    """The methods of some names, or every method of the kind.

    Args:
        kind: The kind of method.
        names: Names of methods; "all" among them selects every method.

    Raises:
        UsageError: A name is unknown.
    """
    return methods(kind) if "all" in names else tuple(find(kind, name) for name in dict.fromkeys(names))
