"""Training as evidence: the weights and the history of a model trained in the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig, TrustConfig
from audit.core.cell import Cell
from audit.core.errors import ModelError
from audit.core.evidence import Evidence
from audit.core.note import Note
from audit.core.registry import find, study
from audit.core.threat import ThreatModel
from audit.execution.context import Context
from audit.execution.stored_model import WEIGHTS, stored_weights
from audit.models.detectors.form import DetectorForm
from audit.models.files import sha256_of
from audit.models.load_state import load_state
from audit.models.module_copy import copy_module
from audit.planning.settings import ModelSettings
from audit.results.facts import ModelFacts
from audit.storage.store import write_atomically
from audit.topics.training.facts import TrainingFacts
from audit.training.callbacks import TrainingCallbacks, TrainingHistory, calmer_training, tensorboard_writer
from audit.training.fit import fit
from audit.training.state import TrainingResult
from audit.training.transfer import (
    OWN_NORMALISATION,
    load_pretrained,
    pretrained_note,
    pretrained_state,
    schedule_notes,
)

HISTORY_FILE = "history.jsonl"


@study()
def training(context: Context, cell: Cell) -> Evidence:
    """Train the architecture of `cell.settings` by the recipe `cell.method`.

    It starts from new weights, from those of the cell `cell.inputs["start"]`, from the loaded model `cell.model`, or
    from a file of weights, whose SHA-256 is the setting `pretrained` and whose path is in the task's context. A recipe
    with a teacher learns from `cell.model` instead. Arrays: the kept state dict, under "weights/". Facts: see
    `TrainingFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    settings = ModelSettings.of(cell)
    config = TrainingConfig.model_validate(settings.training)
    module, normal, notes = _start(context, cell)
    teacher = context.model() if cell.model and _has_teacher(cell) else None
    before = teacher.passes.forwards if teacher else 0

    with _recorder(context) as record:
        trained = fit(
            module,
            context.batch(),
            config,
            classes=len(settings.classes),
            threat=None if cell.threat is None else ThreatModel(cell.threat["norm"], cell.threat["eps"]),
            seed=cell.seed,
            mean=normal[0],
            std=normal[1],
            device=context.device,
            teacher=teacher.module if teacher else None,
            callbacks=TrainingCallbacks(context.scratch, context.progress, context.stopping, record, context.task.role),
            nproc=context.task.context.get("nproc"),
        )
    teacher_forwards = teacher.passes.forwards - before if teacher else 0
    _require_finite(trained, context.task.role)
    return _evidence(cell, trained, module, teacher_forwards, (*notes, *schedule_notes(module, config)))


@contextmanager
def _recorder(context: Context) -> Iterator[Callable[[TrainingHistory], None]]:
    """What keeps the history as it grows: rows of JSON, and event files where they are wanted."""
    folder = context.tensorboard / f"{context.task.role}.tensorboard" if context.tensorboard else None
    with tensorboard_writer(folder) as write_rows:

        def record(history: TrainingHistory) -> None:
            write_atomically(context.scratch / HISTORY_FILE, "".join(json.dumps(row) + "\n" for row in history))
            write_rows(history)

        yield record


def _start(context: Context, cell: Cell) -> tuple[nn.Module, tuple[Any, Any], tuple[Note, ...]]:
    """The module to train, its mean and std, and notes; the normalisation of a starting model goes with its weights."""
    if "start" in cell.inputs:
        start = context.evidence("start")
        facts = start.facts_as(ModelFacts)
        module = context.fresh(cell.seed)
        load_state(module, stored_weights(start))
        return module, (facts.mean, facts.std), ()
    if cell.model and not _has_teacher(cell):
        return _loaded_start(context)
    settings, module = ModelSettings.of(cell), context.fresh(cell.seed)
    normal = settings.mean, settings.std
    if not settings.pretrained:
        return module, normal, ()
    adopted_note = pretrained_note(module, load_pretrained(module, _pretrained(context, cell)))
    return module, normal, (adopted_note,) if normal[0] is not None else (adopted_note, OWN_NORMALISATION)


def _loaded_start(context: Context) -> tuple[nn.Module, tuple[Any, Any], tuple[Note, ...]]:
    fresh: nn.Module
    if isinstance(fresh := context.fresh(0), DetectorForm):  # a copy of the loaded one, which normalises itself
        return fresh, ((0.0,), (1.0,)), ()
    model = context.model()
    module = copy_module(model.net)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module, (model.mean, model.std), ()


def _has_teacher(cell: Cell) -> bool:
    return bool(find("recipe", cell.method).facts.get("teacher"))


def _pretrained(context: Context, cell: Cell) -> Mapping[str, Tensor]:
    path = Path(context.task.context["pretrained"])
    planned, _, entry = ModelSettings.of(cell).pretrained.partition(":")
    if sha256_of(path) != planned:
        raise ModelError(f"{path.name} changed since this run was planned; run the command again.")
    # What the run was planned with was checked for trust; these are the same bytes.
    return pretrained_state(path, (TrustConfig(path=str(path), sha256=planned),), entry)


def _evidence(
    cell: Cell, trained: TrainingResult, module: nn.Module, teacher_forwards: int, notes: tuple[Note, ...]
) -> Evidence:
    return Evidence(
        cell,
        "measured",
        arrays={WEIGHTS + name: weight.numpy() for name, weight in trained.weights.items()},
        facts=TrainingFacts(
            history=tuple(dict(row) for row in trained.history),
            kept_epoch=trained.kept_epoch,
            stopped=trained.stopped,
            notes=(*notes, *trained.notes),
            mean=trained.mean,
            std=trained.std,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
        ).dump(),
        forwards=trained.passes.forwards + teacher_forwards,
        backwards=trained.passes.backwards,
        environment={"seconds_per_epoch": list(trained.seconds)},
    )


def _require_finite(trained: TrainingResult, role: str) -> None:
    broken = [name for name, weight in trained.weights.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise ModelError(f"Training ended in weights that are not finite ({broken[0]}). {calmer_training(role)}")
