"""Does this model fit this data, and can it be audited: its preparation, labels, outputs and gradients."""

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
from audit.core.types import Batch
from audit.data.sampling import balanced_order
from audit.execution.context import Context
from audit.models.preprocessing_probe import ProbeOutcome, probe_preprocessing
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.runs.doctor import Diagnostic
from audit.runs.setup import RunSetup, set_up
from audit.topics.model_sanity.facts import ModelSanityFacts
from audit.topics.model_sanity.study import model_sanity

IMAGES = 100
"""Enough to tell preparations apart."""
_FOR_GRADIENTS = 16
_LINES = {
    "eval mode": ("in_training", "changed_state"),
    "finite outputs": ("not_finite", "output_kind"),
    "determinism": ("repeat_difference", "batch_difference"),
    "gradients": (
        *("missing_gradient", "ce_zero", "ce_nan", "margin_zero", "margin_nan"),
        *("linear_distance", "derivative_error", "needs_autograd", "noise_shift", "plateau"),
    ),
}
"""The sanity study's quantities by what a person asks about."""
_GOOD = {
    "eval mode": "every module keeps it, and a forward pass changes nothing",
    "finite outputs": "on every image",
    "determinism": "the same at every call and in every batch",
    "gradients": "neither zero nor NaN, and equal to finite differences",
}


@dataclass(frozen=True)
class PreprocessingFit:
    """A preparation of the images and the share of them that the model gets right with it; None where it refuses."""

    preparation: str
    accuracy: float | None


@dataclass(frozen=True)
class ModelDiagnostics:
    """`examined` line by line; `fits` best first, over `n` images; `advice` is what to change, "" when nothing is."""

    examined: tuple[Diagnostic, ...]
    fits: tuple[PreprocessingFit, ...]
    n: int
    advice: str


def diagnose_model(config: RunConfig) -> ModelDiagnostics:
    """The model and the data of `config` held against each other. Raises UsageError without a model, and the errors
    of loading either."""
    if config.model.weights is None:
        raise UsageError("audit doctor looks at a model that exists: give a checkpoint with --model.")
    off = config.hardening.model_copy(update={"enabled": False})
    prepared = set_up(config.model_copy(update={"hardening": off}))
    maker = prepared.wrapped()
    assert prepared.loaded is not None and maker is not None
    model, order = maker(), balanced_order(prepared.dataset.test, config.seed)
    batch = prepared.dataset.test.batch(order[:IMAGES]).to(prepared.device)
    outcome = probe_preprocessing(
        prepared.loaded.module,
        batch,
        mean=model.mean,
        std=model.std,
        classes=prepared.dataset.classes,
    )
    notes = [note for note in prepared.loaded.notes if note != outcome.warning]
    examined = (
        Diagnostic("model", f"{prepared.loaded.origin}: {' '.join(notes) or 'nothing was changed to load it'}", True),
        *_data(prepared, batch),
        *_preparation(outcome),
        *_honesty(_sane(model, batch, prepared)),
    )
    fits = tuple(PreprocessingFit(one.preparation.name, one.accuracy if one.ran else None) for one in outcome.trials)
    return ModelDiagnostics(examined, fits, len(batch), outcome.warning)


def _data(prepared: RunSetup, batch: Batch) -> Iterator[Diagnostic]:
    dataset = prepared.dataset
    shape = "x".join(map(str, dataset.shape))
    yield Diagnostic("data", f"{dataset.name}: {len(dataset.test)} test images of {shape}", True)
    for note in dataset.notes:
        yield Diagnostic("data", note, None)
    present = len(np.unique(dataset.test.labels))
    total = len(dataset.classes)
    found = f"{total} outputs for {total} classes" + (f", {present} of them in the test images" * (present < total))
    yield Diagnostic("classes", found, True if present == total else None)


def _preparation(outcome: ProbeOutcome) -> Iterator[Diagnostic]:
    given, best = outcome.configured, outcome.trials[0]
    as_good = best.accuracy == given.accuracy
    rivals = "no other does better" if as_good else f"{best.accuracy:.0%} with {best.preparation.name}, not far better"
    plain = f"{given.accuracy:.0%} right as given; {rivals}"
    if outcome.order:
        yield Diagnostic("preparation", f"{given.accuracy:.0%} right as given", True)
        yield Diagnostic("label order", outcome.warning, False)
        return
    yield Diagnostic("preparation", outcome.warning or plain, not outcome.warning)
    yield Diagnostic("label order", "no other fits far better than the data's own", True)


def _honesty(evidence: Evidence) -> Iterator[Diagnostic]:
    doubts = {doubt.name: doubt.sentence for doubt in evidence.facts_as(ModelSanityFacts).suspicions}
    for line, names in _LINES.items():
        said = [doubts[name] for name in names if name in doubts]
        yield Diagnostic(line, " ".join(said) or _GOOD[line], not said)


def _sane(model: ModelUnderTest, batch: Batch, prepared: RunSetup) -> Evidence:
    some = batch.select(torch.arange(min(_FOR_GRADIENTS, len(batch)), device=batch.labels.device))
    cell = Cell("model-sanity", "honest-evaluation", seed=prepared.config.seed)

    def nothing(name: str) -> Evidence:
        raise AuditError(f"The doctor has no evidence {name!r}.")

    return model_sanity(
        Context(
            task=Task(cell, "standard", Slice("test", 0, len(some)), 0),
            model=lambda: model,
            fresh=prepared.fresh,
            batch=lambda: some,
            evidence=nothing,
            scratch=Path(),
            progress=lambda done, total: None,
            stopping=lambda: False,
            device=prepared.device,
        ),
        cell,
    )
