"""From a configuration to the plan of a run: which cells, on which examples, in which order. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from audit.attacks.batteries import battery_named
from audit.cell import Cell
from audit.config import HardeningConfig, RunConfig, TrainingConfig
from audit.plan import AuditPlan, Slice, Task
from audit.registry import Kind, Method, find, methods
from audit.threat import ThreatModel

Scope = Literal["train", "audit"]

CHUNK = 500
"""Examples a cell: what a kill can lose, small beside a run and large beside a batch."""

SANE = 64
"""Examples on which the model is looked at before an attack on it is believed."""


@dataclass(frozen=True)
class Subject:
    """What a plan must know of the data and the model, all of it identities and sizes.

    `train` and `test` are fingerprints with `train_examples` and `test_examples` behind them; `loaded` is
    the identity of a model that came as a file, None where one is trained.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    test: str
    test_examples: int
    architecture: str
    train: str = ""
    train_examples: int = 0
    loaded: str | None = None

    @property
    def default_eps(self) -> float:
        """0.1 on grey images (Wong and Kolter 2018), 8/255 on colour (RobustBench)."""
        return 0.1 if self.shape[0] == 1 else 8 / 255


def make_plan(config: RunConfig, subject: Subject, scope: Scope = "audit") -> AuditPlan:
    """Every task of a run. Raises UsageError for an unknown method or a wrong setting."""
    for eps in curve_eps(config, subject):
        ThreatModel(config.robustness.norm, eps)
    draft = _Draft(config, subject)
    standard = _Model("standard", identity=subject.loaded or "")
    if subject.loaded is None:
        standard = draft.train("standard", config.training)
    draft.accuracy(standard)
    if scope == "audit":
        draft.audit(standard)
        if config.hardening.enabled:
            hardened = draft.train("hardened", config.hardening, start=standard)
            draft.accuracy(hardened)
            draft.audit(hardened)
    return AuditPlan(tuple(draft.tasks))


def headline_eps(config: RunConfig, subject: Subject) -> float:
    """The eps of the verdict."""
    return config.robustness.eps or subject.default_eps


def curve_eps(config: RunConfig, subject: Subject) -> tuple[float, ...]:
    """The eps of the curve, rising, the headline's among them."""
    headline = headline_eps(config, subject)
    given = config.robustness.curve or tuple(
        headline * factor for factor in (0.125, 0.25, 0.5, 2.0) if headline * factor <= 1
    )
    return tuple(sorted({*given, headline}))


@dataclass(frozen=True)
class _Model:
    """A model of the run: a role, an identity, and the task that makes it, if one does."""

    role: str
    identity: str
    task: Task | None = None

    @property
    def wave(self) -> int:
        return self.task.wave + 1 if self.task else 0


@dataclass
class _Draft:
    config: RunConfig
    subject: Subject
    tasks: list[Task] = field(default_factory=list)

    def train(self, role: str, training: TrainingConfig, start: _Model | None = None) -> _Model:
        recipe = find("recipe", training.recipe)
        hardening = training if isinstance(training, HardeningConfig) else None
        settings: dict[str, Any] = {
            "architecture": self.subject.architecture,
            "classes": list(self.subject.classes),
            "input_shape": list(self.subject.shape),
            "mean": self.config.model.mean,
            "std": self.config.model.std,
            "training": training.model_dump(mode="json", exclude={"enabled", "norm", "eps", "from_scratch"})
            | {"recipe_settings": recipe.settings(training.recipe_settings)},
        }
        warm = start is not None and hardening is not None and not hardening.from_scratch
        inputs = {"start": start.task} if warm and start is not None and start.task else {}
        loaded_start = start.identity if warm and start is not None and not start.task else ""
        task = self.add(
            "training",
            recipe.name,
            _Model(role, loaded_start),
            Slice("train", 0, self.subject.train_examples),
            settings=settings,
            version=recipe.full_version,
            threat=self.threat(hardening) if recipe.facts["adversarial"] else None,
            inputs=inputs,
        )
        return _Model(role, f"cell:{task.cell.key}", task)

    def accuracy(self, model: _Model) -> None:
        for part in self.chunks(self.subject.test_examples, 10 * CHUNK):
            self.add("accuracy", "clean", model, part)

    def audit(self, model: _Model) -> None:
        self.add("sanity", "honest-evaluation", model, self.chunks(min(self.config.robustness.examples, SANE), SANE)[0])
        robust = self.robustness(model)
        self.corruptions(model)
        self.explanations(model, robust)

    def robustness(self, model: _Model) -> Task:
        config = self.config.robustness
        headline = headline_eps(self.config, self.subject)
        tasks = []
        for part in self.chunks(config.examples, CHUNK):
            kept = max(0, min(len(part), self.shown - part.start))
            settings = {
                "eps": list(curve_eps(self.config, self.subject)),
                "headline": headline,
                "kept": kept,
                "protocol": _protocol(config.battery),
            }
            threat = {"norm": config.norm, "eps": headline}
            tasks.append(self.add("robustness", config.battery, model, part, settings=settings, threat=threat))
        return tasks[0]

    def corruptions(self, model: _Model) -> None:
        for method in _chosen("corruption", self.config.corruptions.names):
            for severity in self.config.corruptions.severities:
                for part in self.chunks(self.config.corruptions.examples, 4 * CHUNK):
                    settings = {"severity": severity}
                    self.add("corruption", method.name, model, part, settings=settings, version=method.full_version)

    def explanations(self, model: _Model, robust: Task) -> None:
        config = self.config.explanations
        controls = self.add("controls", "removal", model, Slice("test", 0, self.shown))
        for method in _chosen("attribution", config.methods):
            settings = {
                "method": method.settings(config.settings.get(method.name)),
                "output": config.output,
                "baseline": config.baseline,
            }
            part = Slice("test", 0, self.shown)
            clean = self.add(
                "explanation",
                method.name,
                model,
                part,
                settings=settings | {"on": "clean"},
                version=method.full_version,
            )
            self.add("faithfulness", method.name, model, part, inputs={"explanation": clean, "controls": controls})
            self.add(
                "explanation",
                method.name,
                model,
                part,
                settings=settings | {"on": "adversarial"},
                version=method.full_version,
                inputs={"robustness": robust},
            )

    @property
    def shown(self) -> int:
        """How many images are explained: the first of the audit order, within the first chunk of attacks."""
        return min(
            self.config.explanations.examples, self.config.robustness.examples, CHUNK, self.subject.test_examples
        )

    def threat(self, hardening: HardeningConfig | None) -> Mapping[str, Any]:
        norm = (hardening and hardening.norm) or self.config.robustness.norm
        eps = (hardening and hardening.eps) or headline_eps(self.config, self.subject)
        return {"norm": norm, "eps": eps}

    def chunks(self, examples: int, size: int) -> list[Slice]:
        total = min(examples, self.subject.test_examples)
        return [Slice("test", start, min(start + size, total)) for start in range(0, total, size)]

    def add(
        self,
        study: str,
        method: str,
        model: _Model,
        examples: Slice,
        *,
        settings: Mapping[str, Any] | None = None,
        version: str = "1",
        threat: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Task] | None = None,
    ) -> Task:
        inputs = inputs or {}
        fingerprint = self.subject.train if examples.split == "train" else self.subject.test
        cell = Cell(
            study=study,
            method=method,
            version=f"{find('study', study).version}/{version}",
            settings=settings or {},
            model=model.identity,
            examples=f"{fingerprint}:{self.config.seed}:{examples.start}-{examples.stop}",
            seed=self.config.seed,
            threat=threat,
            inputs={name: task.cell.key for name, task in inputs.items()},
        )
        wave = max([model.wave, *(task.wave + 1 for task in inputs.values())])
        task = Task(cell, model.role, examples, wave)
        self.tasks.append(task)
        return task


def _chosen(kind: Kind, names: tuple[str, ...]) -> tuple[Method, ...]:
    """The methods named, or every one of the kind for "all"."""
    return methods(kind) if "all" in names else tuple(find(kind, name) for name in dict.fromkeys(names))


def _protocol(name: str) -> list[Any]:
    """Everything of a battery that changes its answers: attacks in order, their settings and versions."""
    chosen = battery_named(name)
    attacks = [
        [entry.title, entry.attack, method.settings(entry.settings), method.full_version, entry.sample]
        for entry, method in ((entry, find("attack", entry.attack)) for entry in chosen.entries)
    ]
    return [attacks, chosen.shrink]
