"""Compute cells in this process, one after another; models are made once and shared between cells."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.errors import AuditError, Interrupted, NotApplicable, SetupError, UntrustedError
from audit.core.evidence import Evidence
from audit.core.registry import find
from audit.core.seeding import fork_global_rng
from audit.core.types import Batch
from audit.data.dataset import Dataset
from audit.data.sampling import balanced_order
from audit.execution.context import Context, ModuleFactory
from audit.execution.runner import RunCallback
from audit.execution.stored_model import trained_detector, trained_model
from audit.execution.workers import EvidenceSource
from audit.models.autotune import layouts_of, tune_execution
from audit.models.batching import ExecutionLayout, is_out_of_memory
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.precision import device_facts, ieee_float32, take_nondeterministic_operations
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import CALIBRATION_SPLIT, MODEL_STUDIES, Slice, Task
from audit.planning.settings import ModelSettings

log = logging.getLogger("audit")


@dataclass
class LocalExecutor:
    """Computes cells in this process.

    Attributes:
        dataset: The run's images.
        store: Where the evidence of inputs is, and the scratch folders.
        seed: The seed of the run.
        device: Where to compute.
        fresh: Makes untrained nets of the run's architecture or of another.
        loaded: Gives the model that came as a file; None where there is none.
        callback: Called when a task starts, and with its progress.
        stopping: Becomes true when the user asked to stop.
        tensorboard: The folder for TensorBoard's event files; None where none are wanted.
    """

    dataset: Dataset
    store: EvidenceSource
    seed: int
    device: torch.device
    fresh: ModuleFactory
    loaded: Callable[[], ModelUnderTest | DetectorUnderTest] | None = None
    callback: RunCallback = field(default_factory=RunCallback)
    stopping: Callable[[], bool] = lambda: False
    tensorboard: Path | None = None
    _models: dict[str, ModelUnderTest | DetectorUnderTest] = field(default_factory=dict)

    def compute(self, next_task: Callable[[], Task | None]) -> Generator[tuple[Task, Evidence], None, None]:
        """Compute tasks, one after another.

        An error in a study becomes failed evidence, except in one that makes a model: nothing could follow it.

        Args:
            next_task: Gives the next task, None at the end.

        Yields:
            Each task with its evidence, in order.

        Raises:
            Interrupted: When the user asked to stop.
        """
        while task := next_task():
            if self.stopping():
                raise Interrupted("Stopped as asked; what was finished is kept.")
            self.callback.starting(task)
            yield task, self.compute_cell(task)

    def compute_cell(self, task: Task) -> Evidence:
        """Compute one task.

        Args:
            task: The task.

        Returns:
            Its evidence.

        Raises:
            Interrupted: When the user asked to stop.
            AuditError: What ends a run: the machine, code that is not trusted, a model that cannot be made.
        """
        started = time.monotonic()
        take_nondeterministic_operations()
        try:
            evidence = self._study(task)
            if not isinstance(evidence, Evidence):
                raise AuditError(f"The study {task.cell.study} returned {type(evidence).__name__}, not its evidence.")
            _require_one_value_an_example(evidence, len(task.examples))
        except NotApplicable as fault:
            evidence = Evidence(task.cell, "not_applicable", reason=fault.reason)
        except (SetupError, UntrustedError, Interrupted):
            raise
        except Exception as fault:
            if task.cell.study in MODEL_STUDIES:
                raise
            log.debug("%s failed", task.label, exc_info=True)
            name = "" if isinstance(fault, AuditError) else f"{type(fault).__name__}: "
            evidence = Evidence(task.cell, "failed", reason=f"{name}{fault}")
        environment = {**self._environment(task), **evidence.environment}
        return replace(evidence, seconds=time.monotonic() - started, environment=environment)

    def _study(self, task: Task) -> Evidence:
        """What the study of a cell gives; it begins again with half the batch where memory ran out outside a pass.

        Within one the batch is halved at once (`audit.models.batching`); what a study holds beside it, such as the
        state of a search or a stack of masks, grows with the batch too.
        """
        while True:
            try:
                with fork_global_rng(self.device, task.cell.key), ieee_float32():
                    evidence: Evidence = find("study", task.cell.study).function(self._context(task), task.cell)
                    return evidence
            except (RuntimeError, MemoryError) as fault:
                model = self._models.get(task.cell.model)
                if not is_out_of_memory(fault) or model is None or model.layout.batch_size == 1:
                    raise
                model.layout.halve()

    def layouts(self, identity: str) -> Mapping[str, ExecutionLayout]:
        """How a model is asked on this machine, for workers to ask it alike; nothing of a model that cannot be made.

        Args:
            identity: The model's identity, as `Cell.model` holds it.
        """
        with fork_global_rng(self.device, identity):
            try:
                model = self._make_model(identity)
                return layouts_of(model) if isinstance(model, ModelUnderTest) else {}
            except AuditError as fault:  # the cells of that model say why
                log.debug("No layout of %s: %s", identity, fault)
                return {}

    def _context(self, task: Task) -> Context:
        return Context(
            task=task,
            model=lambda: self._classifier(task.cell.model),
            detector=lambda: self._detector(task.cell.model),
            fresh=self.fresh,
            batch=lambda: self._batch(task.examples),
            evidence=lambda name: self._input(task, name),
            scratch=self.store.scratch(task.cell.key),
            progress=lambda done, total: self.callback.progress(task, done, total),
            stopping=self.stopping,
            device=self.device,
            tensorboard=self.tensorboard,
            dataset=self.dataset,
            others=self._batch,
            cohorts=lambda: self._cohorts(task.examples),
        )

    def _input(self, task: Task, name: str) -> Evidence:
        evidence = self.store.get(task.cell.inputs[name])
        if evidence is None:
            raise AuditError(f"{task.label} needs the {name} study, which failed: see its own reason.")
        if evidence.status == "not_applicable":
            raise NotApplicable(evidence.reason)
        return evidence

    def _classifier(self, identity: str) -> ModelUnderTest:
        model = self._model(identity)
        if isinstance(model, DetectorUnderTest):
            raise AuditError("This study asks a classifier, and the run is of a detector.")
        return model

    def _detector(self, identity: str) -> DetectorUnderTest:
        model = self._model(identity)
        if isinstance(model, ModelUnderTest):
            raise AuditError("This study asks a detector, and the run is of a classifier.")
        return model

    def _model(self, identity: str) -> ModelUnderTest | DetectorUnderTest:
        if identity not in self._models:
            with fork_global_rng(self.device, identity):  # tuning asks a random model as often as time allows
                model = self._make_model(identity)
                if isinstance(model, ModelUnderTest):
                    tune_execution(model)
            self._models[identity] = model
        return self._models[identity]

    def _make_model(self, identity: str) -> ModelUnderTest | DetectorUnderTest:
        if identity.startswith("cell:"):
            evidence = self.store.get(identity.removeprefix("cell:"))
            if evidence is None:
                raise AuditError("The trained model vanished from the store during the run; run the command again.")
            student = ModelSettings.of(evidence.cell).student
            module = self.fresh(self.seed, student)
            if isinstance(module, DetectorForm):
                return trained_detector(evidence, device=self.device, form=module)
            return trained_model(evidence, device=self.device, module=module)
        if self.loaded is None:
            raise AuditError(f"No model {identity!r} was given to this run.")
        return self.loaded()

    def _batch(self, examples: Slice) -> Batch:
        if examples.split in ("train", CALIBRATION_SPLIT):
            train = self.dataset.train
            if train is None:
                raise AuditError(f"{self.dataset.name} has no training images.")
            order = np.arange(len(train)) if examples.split == "train" else balanced_order(train, self.seed)
            return train.batch(order[examples.start : examples.stop])
        return self.dataset.test.batch(self._test_order[examples.start : examples.stop])

    def _cohorts(self, examples: Slice) -> Mapping[str, NDArray[Any]]:
        if examples.split != "test":
            return {}
        positions = self._test_order[examples.start : examples.stop]
        return {name: values[positions] for name, values in self.dataset.test.cohorts.items()}

    @cached_property
    def _test_order(self) -> NDArray[np.int64]:
        """The audit order of the test images, which every cell reads a part of."""
        return balanced_order(self.dataset.test, self.seed)

    def _environment(self, task: Task) -> dict[str, object]:
        model = self._models.get(task.cell.model)
        layout = asdict(model.layout) if model else {}
        versions = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        names = take_nondeterministic_operations()
        loose = {"nondeterministic": list(names)} if names else {}
        return {**device_facts(self.device), **versions, **layout, **loose}


def _require_one_value_an_example(evidence: Evidence, examples: int) -> None:
    """A study that measures fewer, or what is no number, fails here by name and not where its numbers are joined.

    A study of no examples, such as the self-test, measures what it likes.
    """
    for item in evidence.measurements:
        values = np.asarray(item.per_example)
        if examples and (values.shape != (examples,) or values.dtype.kind not in "biuf"):
            raise AuditError(
                f"The study {evidence.cell.study} measured {item.name!r} as {values.dtype} of shape {values.shape}, "
                f"where one number for each of {examples} examples was expected."
            )
