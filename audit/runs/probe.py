"""A probe: the cells of a plan on a few images, for what they cost and how the images fare under attack."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.core.types import PassCount
from audit.data.sampling import balanced_order
from audit.execution.local import LocalExecutor
from audit.execution.stored_model import trained_detector, trained_model
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest
from audit.planning.build import build_plan
from audit.planning.builder import EXAMPLES_PER_CELL
from audit.planning.cost import max_task_passes
from audit.planning.experience import CellCost, Experience
from audit.planning.plan import CALIBRATION_SPLIT, MODEL_STUDIES, AuditPlan, Slice, Task
from audit.planning.settings import ModelSettings
from audit.planning.throughput import Throughput
from audit.planning.time_budget import minimum_examples, no_more_than
from audit.runs.battery_probe import attack_a_few, images_to_attack
from audit.runs.past_costs import outcomes_of, past_costs
from audit.runs.run_setup import RunSetup
from audit.runs.throughput import AnyModel, measure_throughput
from audit.storage.store import Store

log = logging.getLogger("audit")
PROBE_SECONDS = 40.0
"""So long a probe goes on at most, but for the cell it is at."""
SECONDS_A_CELL = (40.0, 4.0)
"""A cell that could take longer is not probed: its passes are timed instead. By size: what one image costs a method
that stops by itself is worth knowing, what several cost is not."""
EXPLAINED = 4
"""Images that each method explains in a probe."""
SIZES = (4, 1)
"""Every cell is probed on a quarter of the images, then on all: what is paid once, such as an import, shows so."""
OF_A_KIND = 2
"""Cells of one study and method that are probed at most: those that differ in a severity alone cost alike."""
BATCHES = 4
"""Batches of a training that are timed."""
SHORT_TRAINING = {
    "epochs": 2,
    "time_budget": None,
    "probe_examples": 1,
    "frozen_epochs": 0,
    "compile": False,
}
"""What differs in a training that is timed: the first epoch warms up, the second counts."""
UNTOLD_FORWARD = 1e-3
"""Seconds of a forward above which a cell whose cost nobody declares is not begun: nothing would end it."""
STAND_IN = "stand-in"
"""The model in place of one that does not exist yet: of the same architecture, untrained. It tells times alone."""


def learn_costs(setup: RunSetup, plan: AuditPlan, store: Store, *, probe: bool = True) -> Experience:
    """What is known of the cost of a plan here: from its store, and from a probe of what the store tells nothing of.

    Nothing is written to the store.

    Args:
        setup: The data, the model and the device.
        plan: The plan.
        store: The store of the run folder, which need not exist.
        probe: Whether to compute cells on a few images; without, the store and the throughput alone tell.
    """
    adversarial = {f"cell:{t.cell.key}": t.cell.threat is not None for t in plan.tasks if t.cell.study in MODEL_STUDIES}
    past = past_costs(store, plan, setup.subject, setup.device)
    with TemporaryDirectory(prefix="audit-probe-") as folder:
        prober = _Prober(setup, plan, store, Store(Path(folder)))
        model = prober.model(prober.timed)
        experience = Experience(measure_throughput(model), past, adversarial=adversarial)
        if not probe:
            return experience
        images = prober.run(model, experience)
    return replace(experience, cells=(*past, *prober.cells), probed=images if prober.cells else 0)


class _Prober:
    """Computes cells of a plan on a few images, into a store of its own that is thrown away."""

    def __init__(self, setup: RunSetup, plan: AuditPlan, store: Store, scratch: Store) -> None:
        self.setup, self.plan, self.store, self.scratch = setup, plan, store, scratch
        loaded, makers = setup.subject.loaded, [t.cell.key for t in plan.tasks if t.cell.study in MODEL_STUDIES]
        self.known = ([loaded] if loaded else []) + [f"cell:{key}" for key in makers if store.has(key)]
        self.timed = self.known[0] if self.known else STAND_IN
        self.executor = LocalExecutor(
            dataset=setup.dataset,
            store=scratch,
            seed=setup.config.seed,
            device=setup.device,
            fresh=setup.new_module,
            loaded=lambda: self.model(self.timed),
        )
        self.cells: list[CellCost] = []
        self.models: dict[str, AnyModel] = {}
        self.stops_at = math.inf

    def model(self, identity: str) -> AnyModel:
        """A model that exists, or the untrained one in its place.

        Args:
            identity: As `Cell.model` holds it.
        """
        if identity not in self.models:
            self.models[identity] = self._made(identity)
        return self.models[identity]

    def _made(self, identity: str) -> AnyModel:
        evidence = self.store.get(identity.removeprefix("cell:")) if identity in self.known else None
        if evidence is None:
            return (self.setup.model_factory() or self.setup.new_model)()
        self.scratch.put(evidence)
        module = self.setup.new_module(self.setup.config.seed, ModelSettings.of(evidence.cell).student)
        if isinstance(module, DetectorForm):
            return trained_detector(evidence, device=self.setup.device, form=module)
        return trained_model(evidence, device=self.setup.device, module=module)

    def run(self, model: AnyModel, experience: Experience) -> int:
        """Compute cells, whose costs are then in `cells`.

        Args:
            model: The model that was timed.
            experience: What the store tells, and how fast the model is.

        Returns:
            The number of images that were attacked.
        """
        self.stops_at = time.monotonic() + PROBE_SECONDS
        images = min(images_to_attack(experience.throughput), self.setup.subject.test_examples)
        self._train(experience.throughput)
        self._attack(model, images, experience)
        for part, limit in zip(SIZES, SECONDS_A_CELL, strict=True):
            seen: Counter[tuple[str, str]] = Counter()
            for task in self._small_plan(max(1, images // part), max(1, EXPLAINED // part)):
                attacks = task.cell.study == "robustness"
                if seen[_kind(task)] < OF_A_KIND and self._wanted(task, experience) and not (attacks and part == 1):
                    seen[_kind(task)] += 1
                    self._measure(task, experience.throughput, limit)
        return images

    def _small_plan(self, images: int, explained: int) -> Iterator[Task]:
        """The tasks on a few images of one model, which counts as loaded: nothing is trained."""
        examples = {key: explained if key.startswith("explanations.") else images for key in minimum_examples()}
        config = no_more_than(self.setup.config, examples)
        off = {"enabled": False}
        config = config.model_copy(
            update={
                "hardening": config.hardening.model_copy(update=off),
                "compression": config.compression.model_copy(update=off),
                "chunk": EXAMPLES_PER_CELL,
            }
        )
        identity = replace(self.setup.subject, test_examples=images, loaded=self.timed)
        for wave in build_plan(config, identity).waves():
            yield from wave

    def _wanted(self, task: Task, experience: Experience) -> bool:
        """Whether the cost of the task tells of one that is to come, and nothing else does."""
        missing = {_kind(other) for other in self.plan.tasks if not self.store.has(other.cell.key)}
        ready = all(self.scratch.has(key) for key in task.cell.inputs.values())
        return _kind(task) in missing and ready and not experience.like(task)

    def _measure(self, task: Task, throughput: Throughput, limit: float) -> None:
        most = max_task_passes(task, self.setup.subject)
        if most is None and throughput.forward > UNTOLD_FORWARD:
            return
        if most is not None and throughput.seconds(most) > limit:
            return
        if time.monotonic() > self.stops_at:
            return
        evidence = self._evidence(task)
        if evidence is not None:
            self.scratch.put(evidence)
            passes, examples, seconds = _spent(evidence), len(task.examples), evidence.seconds
            if epochs := evidence.environment.get("seconds_per_epoch"):  # the first one warms up
                passes = PassCount(passes.forwards // len(epochs), passes.backwards // len(epochs))
                seconds = epochs[-1]
            outcomes = outcomes_of(evidence, examples) if task.cell.model in self.known else None
            self.cells.append(CellCost(evidence.cell, examples, passes, seconds, "probe", outcomes))

    def _evidence(self, task: Task) -> Evidence | None:
        """What a cell measured; None where it cannot be: the run itself will say why, in its place."""
        try:
            evidence = self.executor.compute_cell(task)
        except Interrupted:
            raise
        except Exception as fault:  # of a training, or of the model
            log.debug("The probe of %s failed: %s", task.label, fault, exc_info=True)
            return None
        return evidence if evidence.status == "measured" else None

    def _attack(self, model: AnyModel, images: int, experience: Experience) -> None:
        """How the first images of every model fare under the cheap attacks; of one that does not exist, their pace."""
        test = self.setup.dataset.test
        batch = test.batch(balanced_order(test, self.setup.config.seed)[:images])
        told = {cost.cell.model for cost in experience.cells if cost.cell.study == "robustness"}
        for task in self.plan.tasks:
            if task.cell.study != "robustness" or task.cell.model in told or self.store.has(task.cell.key):
                continue
            exists = task.cell.model in self.known
            if not exists and told:
                continue
            told.add(task.cell.model)
            subject = model if task.cell.model == self.timed or not exists else self.model(task.cell.model)
            if isinstance(subject, DetectorUnderTest):  # no study of a classifier is planned for one
                continue
            cost = attack_a_few(subject, batch, task, self.scratch, experience.throughput, exists=exists)
            self.cells += [cost] if cost else []

    def _train(self, throughput: Throughput) -> None:
        """A few batches of every training that is to come, from new weights."""
        for task in self.plan.tasks:
            settings = ModelSettings.of(task.cell) if task.cell.study in MODEL_STUDIES else None
            if settings is None or settings.training is None or self.store.has(task.cell.key):
                continue
            training = settings.training | SHORT_TRAINING
            few = math.ceil(BATCHES * training["batch_size"] / (1 - training["held_out"]))
            examples = Slice(CALIBRATION_SPLIT, 0, min(few, len(task.examples)))
            short = settings.model_copy(update={"training": training, "pretrained": ""}).dump()
            cell = replace(
                task.cell,
                study="training",
                method=training["recipe"],
                settings=short,
                inputs={},
                examples=f":0-{len(examples)}",
            )
            if cell.model in self.known or not cell.model:
                self._measure(replace(task, cell=cell, examples=examples, context={}), throughput, SECONDS_A_CELL[0])


def _spent(evidence: Evidence) -> PassCount:
    return PassCount(evidence.forwards, evidence.backwards)


def _kind(task: Task) -> tuple[str, str]:
    return task.cell.study, task.cell.method
