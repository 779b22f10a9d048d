"""Looks at a model beside its data: do preparation and labels fit, and can its outputs and gradients be trusted?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audit.config import RunConfig
from audit.core.cell import Cell
from audit.core.errors import AuditError, UsageError
from audit.core.evidence import Evidence
from audit.core.objects import pack_detections, unpack_detections
from audit.core.types import Batch
from audit.data.sampling import balanced_order
from audit.execution.context import Context
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.files import is_code
from audit.models.loaded import LoadedModel
from audit.models.preprocessing_probe import ProbeOutcome, probe_preprocessing
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.runs.doctor import Diagnostic
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from audit.topics.model_sanity.facts import ModelSanityFacts
from audit.topics.model_sanity.study import model_sanity
from audit.training.detection import mean_average_precision

_NO_MODEL = (
    "audit doctor looks at a model that exists: give a checkpoint with --model, or FILE.py:FUNCTION that returns a "
    "module with weights of its own with --architecture."
)
_IMAGES = 100
"""Enough to tell preparations apart."""
_GRADIENT_IMAGES = 16
_LINES = {
    "eval mode": ("in_training", "changed_state"),
    "finite outputs": ("not_finite", "output_kind"),
    "determinism": ("repeat_difference", "batch_difference"),
    "gradients": (
        *("missing_gradient", "ce_zero", "ce_nan", "margin_zero", "margin_nan"),
        *("linear_distance", "derivative_error", "face_error", "needs_autograd", "noise_shift", "plateau"),
    ),
}
"""The quantities of the model-sanity study, by line of the diagnosis."""
_GOOD = {
    "eval mode": "every module keeps it, and a forward pass changes nothing",
    "finite outputs": "on every image",
    "determinism": "the same at every call and in every batch",
    "gradients": "neither zero nor NaN, and equal to finite differences",
}


@dataclass(frozen=True)
class PreprocessingFit:
    """How well a preparation of the images fits the model.

    Attributes:
        preparation: What it does.
        accuracy: The share of the images that the model classifies right with it; None where the model fails.
    """

    preparation: str
    accuracy: float | None


@dataclass(frozen=True)
class ModelDiagnostics:
    """What was seen of a model beside its data.

    Attributes:
        examined: The properties of the model, in order.
        fits: The preparations of the images that were tried, the best first.
        n: The number of images.
        advice: What to change, in a sentence; "" for nothing.
    """

    examined: tuple[Diagnostic, ...]
    fits: tuple[PreprocessingFit, ...]
    n: int
    advice: str


def diagnose_model(config: RunConfig) -> ModelDiagnostics:
    """Try the model of a configuration on its data.

    Args:
        config: The configuration, with weights, or a function that returns a module with weights of its own.

    Raises:
        UsageError: It has none.
        AuditError: Data or model cannot be loaded.
    """
    if not config.model.loads and not is_code(config.model.architecture):
        raise UsageError(_NO_MODEL)
    setup = set_up(config.without_hardening())
    build = setup.model_factory()
    if setup.loaded is None or build is None:
        raise UsageError(_NO_MODEL)
    model, order = build(), balanced_order(setup.dataset.test, config.seed)
    batch = setup.dataset.test.batch(order[:_IMAGES]).to(setup.device)
    if isinstance(model, DetectorUnderTest):
        return _of_detector(model, setup, setup.loaded, batch.select(torch.arange(min(_GRADIENT_IMAGES, len(batch)))))
    outcome = probe_preprocessing(
        model.net,
        batch,
        mean=model.mean,
        std=model.std,
        classes=setup.dataset.classes,
        reader=model.reader,
    )
    notes = [note.text for note in (*setup.loaded.notes, *model.notes) if note != outcome.warning]
    examined = (
        Diagnostic("model", f"{setup.loaded.origin}: {' '.join(notes) or 'nothing was changed to load it'}", True),
        *_data(setup, batch),
        *_preparation(outcome),
        *_model(_sanity_evidence(model, batch, setup)),
    )
    fits = tuple(
        PreprocessingFit(trial.preparation.name, trial.accuracy if trial.ran else None) for trial in outcome.trials
    )
    return ModelDiagnostics(examined, fits, len(batch), str(outcome.warning))


def _of_detector(detector: DetectorUnderTest, setup: RunSetup, loaded: LoadedModel, batch: Batch) -> ModelDiagnostics:
    first, second = (pack_detections(detector.detect(batch.images)) for _ in range(2))
    same = all(np.array_equal(own, second.arrays("")[name]) for name, own in first.arrays("").items())
    there = sum(int((~objects.crowd).sum()) for objects in batch.objects or ())
    score = mean_average_precision(batch.objects or (), unpack_detections(first))
    notes = " ".join(note.text for note in loaded.notes) or "nothing was changed to load it"
    gives = [
        name
        for name, given in (
            ("losses", detector.gives_losses),
            ("boxes before suppression", detector.gives_candidates),
            ("gradients", detector.gives_gradients),
        )
        if given
    ]
    examined = (
        Diagnostic("model", f"{loaded.origin}: {notes}", True),
        *_data(setup, batch),
        Diagnostic("boxes", f"{len(first.labels)} found where {there} objects are; mAP {score:.3f}", score > 0 or None),
        Diagnostic("determinism", "the same at every call" if same else "differs from call to call", same),
        Diagnostic(
            "gives", ", ".join(gives) or "boxes alone: attacks that need losses are left out", bool(gives) or None
        ),
    )
    return ModelDiagnostics(examined, (), len(batch), "")


def _data(setup: RunSetup, batch: Batch) -> Iterator[Diagnostic]:
    dataset = setup.dataset
    shape = "x".join(map(str, dataset.shape))
    yield Diagnostic("data", f"{dataset.name}: {len(dataset.test)} test images of {shape}", True)
    for note in dataset.notes:
        yield Diagnostic("classes" if note.key == "data_names_differ" else "data", str(note), None)
    if dataset.has_objects or any(note.key == "data_names_differ" for note in dataset.notes):
        return
    present = len(np.unique(dataset.test.labels))
    total = len(dataset.classes)
    counts = f"{total} outputs for {total} classes" + (f", {present} of them in the test images" * (present < total))
    yield Diagnostic("classes", counts, True if present == total else None)


def _preparation(outcome: ProbeOutcome) -> Iterator[Diagnostic]:
    present, best = outcome.configured, outcome.trials[0]
    ties = best.accuracy == present.accuracy
    rivals = "no other does better" if ties else f"{best.accuracy:.0%} with {best.preparation.name}, not far better"
    plain = f"{present.accuracy:.0%} right as given; {rivals}"
    if outcome.order:
        yield Diagnostic("preparation", f"{present.accuracy:.0%} right as given", True)
        yield Diagnostic("label order", str(outcome.warning), False)
        return
    yield Diagnostic("preparation", str(outcome.warning) or plain, not outcome.warning)
    yield Diagnostic("label order", "no other fits far better than the data's own", True)


def _model(evidence: Evidence) -> Iterator[Diagnostic]:
    doubts = {doubt.name: doubt.sentence.text for doubt in evidence.facts_as(ModelSanityFacts).suspicions}
    for line, names in _LINES.items():
        sentences = [doubts[name] for name in names if name in doubts]
        yield Diagnostic(line, " ".join(sentences) or _GOOD[line], not sentences)


def _sanity_evidence(model: ModelUnderTest, batch: Batch, setup: RunSetup) -> Evidence:
    subset = batch.select(torch.arange(min(_GRADIENT_IMAGES, len(batch)), device=batch.labels.device))
    cell = Cell("model-sanity", "honest-evaluation", seed=setup.config.seed)

    def no_evidence(name: str) -> Evidence:
        raise AuditError(f"The doctor has no evidence {name!r}.")

    return model_sanity(
        Context(
            task=Task(cell, "standard", Slice("test", 0, len(subset)), 0),
            model=lambda: model,
            fresh=setup.new_module,
            batch=lambda: subset,
            evidence=no_evidence,
            scratch=Path(),
            progress=lambda done, total: None,
            stopping=lambda: False,
            device=setup.device,
        ),
        cell,
    )
