"""Collects what the report says of a run beside its evidence: names, origins, pictures, commands."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.note import Note, note
from audit.data.sampling import balanced_order
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.precision import device_facts
from audit.models.under_test import ModelUnderTest
from audit.planning.builder import explained_examples
from audit.planning.cost import max_task_passes
from audit.planning.settings import ModelSettings
from audit.report.metadata import ModelMetadata, RunMetadata
from audit.results.facts import ModelFacts
from audit.results.run_results import RunResults, TaskResult
from audit.runs.reproduce import section_commands, subject_flags
from audit.runs.run_setup import RunSetup

LIBRARIES = ("torch", "torchvision", "captum", "foolbox", "lime", "shap", "numpy", "scikit-learn", "scikit-image")


def collect_metadata(setup: RunSetup, results: RunResults) -> RunMetadata:
    """What the report says of a run beside its evidence. Nothing of it depends on when or in which folder it ran.

    Args:
        setup: The data, the model and the configuration.
        results: The evidence of the run.
    """
    dataset, config = setup.dataset, setup.config
    order = balanced_order(dataset.test, config.seed)
    return RunMetadata(
        version=version("audit"),
        data=dataset.name,
        classes=dataset.classes,
        shape=dataset.shape,
        models=_models(setup, results),
        gallery=_pixels(setup, order[: min(config.report.gallery, len(explained_examples(config, len(order))))]),
        ids=tuple(dataset.test.ids[i] for i in order),
        notes=(*dataset.notes, *_determinism_notes(results), *_replay_notes(results)),
        environment=_environment(setup),
        trusted=setup.trusted,
        commands=section_commands(setup.requested or config, setup.subject.task),
        subject=subject_flags(setup.requested or config),
        most_passes={task.cell.key: max_task_passes(task, setup.subject) for task in results.unfinished},
    )


def _pixels(setup: RunSetup, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    if len(positions) == 0 or not setup.config.report.images:
        return np.zeros((0, *setup.dataset.shape), dtype=np.uint8)
    images = setup.dataset.test.batch(positions).images.numpy()
    pixels: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
    return pixels


def _models(setup: RunSetup, results: RunResults) -> tuple[ModelMetadata, ...]:
    trained = {entry.task.role: _trained(entry) for entry in results.model_results()}
    if setup.notes and "standard" in trained:
        trained["standard"] = replace(trained["standard"], notes=(*setup.notes, *trained["standard"].notes))
    wrapped = setup.model_factory()
    standard = {} if wrapped is None else {"standard": _loaded(setup, wrapped())}
    return tuple((standard | trained).values())


def _trained(entry: TaskResult) -> ModelMetadata:
    cell, facts = entry.task.cell, entry.evidence.facts_as(ModelFacts)
    return ModelMetadata(
        role=entry.task.role,
        architecture=ModelSettings.of(cell).architecture,
        origin=_origin(entry),
        identity=cell.key,
        parameters=facts.parameters,
        recipe=cell.method,
        notes=facts.notes,
    )


def _origin(entry: TaskResult) -> Note:
    if entry.task.cell.study == "compression":
        return note("made_from_standard", "made here from the standard model")
    pretrained = entry.task.context.get("pretrained")
    if pretrained:
        return note("trained_from", "trained here from {file}", file=Path(pretrained).name)
    return note("trained_here", "trained here")


def _loaded(setup: RunSetup, model: ModelUnderTest | DetectorUnderTest) -> ModelMetadata:
    assert setup.loaded is not None
    return ModelMetadata(
        role="standard",
        architecture=setup.subject.architecture,
        origin=setup.loaded.origin,
        identity=setup.loaded.identity,
        parameters=sum(
            p.numel() for p in (model.form if isinstance(model, DetectorUnderTest) else model.net).parameters()
        ),
        notes=setup.loaded.notes,
    )


def _determinism_notes(results: RunResults) -> tuple[Note, ...]:
    """What layers without a deterministic kernel on this device mean for the promise of the same bytes."""
    found = {name for e in results.evidence.values() for name in e.environment.get("nondeterministic", ())}
    if not found:
        return ()
    said = note(
        "nondeterministic_kernels",
        "{names}: no deterministic kernel on this device, so another run may differ in the last digits.",
        names=", ".join(sorted(found)),
    )
    return (said,)


def _replay_notes(results: RunResults) -> tuple[Note, ...]:
    """That searches ran from recordings, on a card where that pays (see `audit.models.replayed_steps`)."""
    most = max((e.environment.get("replayed", 0) for e in results.evidence.values()), default=0)
    if not most:
        return ()
    said = note(
        "replayed_steps",
        "Steps of attacks on up to {images} images at once were replayed from CUDA graphs; what judges was not.",
        images=most,
    )
    return (said,)


def _environment(setup: RunSetup) -> Mapping[str, Any]:
    return {
        **device_facts(setup.device),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in LIBRARIES},
    }
