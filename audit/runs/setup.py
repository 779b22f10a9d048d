"""Read what a run needs before anything is written: data, model, device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audit.config import ModelConfig, RunConfig
from audit.core.errors import UsageError
from audit.data.dataset import Dataset
from audit.data.formats.image import labelled_as
from audit.data.load import load_dataset
from audit.data.sampling import balanced_order
from audit.models.architecture import default_for
from audit.models.files import sha256_of
from audit.models.formats.user_code import is_code
from audit.models.identity import model_identity
from audit.models.load import fresh_module, load_model
from audit.models.loaded import LoadedModel
from audit.models.resize_layers import match_state_dict
from audit.models.under_test import ModelUnderTest, resolve_device
from audit.planning.run_identity import RunIdentity
from audit.runs.checkpoint_metadata import align_labels, apply_architecture, apply_preprocessing
from audit.runs.validation import (
    check_can_reinitialise,
    check_frozen_epochs,
    check_pretrained_fits,
    check_prunable,
    needs_training_data,
    wants_tensorboard,
    with_default_learning_rate,
    with_pretrained,
)

_PROBED = 100
_WELL_PREPARED = 0.85
"""The accuracy on `_PROBED` images above which nobody suspects the preparation."""


@dataclass(frozen=True)
class RunSetup:
    """Everything a plan and an engine are made from."""

    config: RunConfig
    dataset: Dataset
    subject: RunIdentity
    device: torch.device
    loaded: LoadedModel | None
    trusted: tuple[Mapping[str, str], ...] = ()

    def fresh(self, seed: int, architecture: str | None = None) -> nn.Module:
        """A module of `architecture`, the run's own by default, its weights drawn from `seed`; a copy of a model that
        came whole, and of the form of one that was compressed."""
        if self.loaded is not None and self.loaded.whole and architecture is None:
            return copy.deepcopy(self.loaded.module)
        model = self.config.model
        chosen = model if architecture is None else model.model_copy(update={"architecture": architecture})
        module, _ = fresh_module(chosen, classes=len(self.dataset.classes), input_shape=self.dataset.shape, seed=seed)
        if self.loaded is not None and architecture is None:
            match_state_dict(module, self.loaded.module.state_dict(), cut=self.loaded.cut)
        return module

    def wrapped(self) -> Callable[[], ModelUnderTest] | None:
        """A maker of the loaded model as the suite sees it; None where the model is trained here."""
        loaded = self.loaded
        if loaded is None:
            return None
        return lambda: _wrap(self.config, self.dataset, loaded, self.device)


def set_up(config: RunConfig) -> RunSetup:
    """Load the data and, if the configuration names one, the model. Raises the sentences a user reads."""
    device = resolve_device(config.device)
    wants_tensorboard(config)
    check_frozen_epochs(config)
    data = apply_preprocessing(config.data, config.model)
    config = config.model_copy(update={"data": data})
    dataset = load_dataset(
        data.source,
        image_size=data.image_size,
        grayscale=data.grayscale,
        train_examples=data.train_examples,
        strict=data.strict,
        labels_map=data.labels_map,
        crop=data.crop,
        rotate=data.rotate,
        flip=data.flip,
    )
    dataset = align_labels(dataset, data, config.model)
    _require_training_images(config, dataset)
    model = with_pretrained(_resolved(config.model, dataset), dataset.shape[0])
    config = config.model_copy(update={"model": model})
    loaded = None
    if model.weights is not None:
        loaded = load_model(model, classes=dataset.classes, input_shape=dataset.shape, device=device, seed=config.seed)
        config = config.model_copy(update={"model": model.model_copy(update={"architecture": loaded.architecture})})
    config = with_default_learning_rate(config)
    check_can_reinitialise(config, loaded)
    labelled = bool((dataset.test.labels >= 0).all())
    if loaded is not None and not labelled:
        dataset = _labelled(config, dataset, loaded)
    prepared = RunSetup(config, dataset, _subject(config, dataset, loaded, labelled=labelled), device, loaded)
    _require_running(prepared)
    return _warn_on_preprocessing_mismatch(replace(prepared, trusted=_trusted(prepared)))


def _labelled(config: RunConfig, dataset: Dataset, loaded: LoadedModel) -> Dataset:
    """`dataset` with what the model predicts as the labels, where the images have none."""
    model = _wrap(config, dataset, loaded, resolve_device(config.device))
    return labelled_as(dataset, model.predictions(dataset.test.batch(slice(None)).images).cpu().numpy())


def _wrap(config: RunConfig, dataset: Dataset, loaded: LoadedModel, device: torch.device) -> ModelUnderTest:
    return ModelUnderTest(
        loaded.module,
        classes=dataset.classes,
        input_shape=dataset.shape,
        mean=config.model.mean,
        std=config.model.std,
        device=device,
    )


def _trusted(prepared: RunSetup) -> tuple[Mapping[str, str], ...]:
    """The files of code this run executes, with their hashes."""
    if prepared.loaded is not None:
        return prepared.loaded.trusted
    _, files = fresh_module(
        prepared.config.model, classes=len(prepared.dataset.classes), input_shape=prepared.dataset.shape, seed=0
    )
    return tuple(file.row() for file in files)


def _resolved(model: ModelConfig, dataset: Dataset) -> ModelConfig:
    """With what the checkpoint's own header says where the configuration is silent, and auto made a name."""
    known = apply_architecture(model, dataset.classes)
    if known.architecture == "auto" and known.weights is None:
        known = known.model_copy(update={"architecture": default_for(dataset.shape)})
    return known


def _require_training_images(config: RunConfig, dataset: Dataset) -> None:
    """Asked before a model is read, which may take long."""
    trains, given = (
        config.hardening.enabled or needs_training_data(config.compression),
        config.model.weights is not None,
    )
    if dataset.train is not None or (given and not trains):
        return
    lacking = "hardening and fine-tuning need some" if given else "no --model was given"
    remedy = "or --no-harden" if given else "or a checkpoint with --model"
    raise UsageError(f"{dataset.name} has no training images, and {lacking}: give data with a train folder, {remedy}.")


def _require_running(prepared: RunSetup) -> None:
    """A model that cannot take these images, or code nobody vouched for, is refused before anything is written."""
    maker = prepared.wrapped()
    if maker is not None:
        maker()
    else:
        _run_fresh(prepared, None)
        check_pretrained_fits(prepared.config.model, lambda: prepared.fresh(prepared.config.seed))
    if prepared.config.compression.enabled and prepared.config.compression.student is not None:
        _run_fresh(prepared, prepared.config.compression.student)
    check_prunable(
        prepared.config.compression,
        lambda: prepared.loaded.module if prepared.loaded else prepared.fresh(prepared.config.seed),
        prepared.dataset.shape,
    )


def _run_fresh(prepared: RunSetup, architecture: str | None) -> None:
    dataset, module = prepared.dataset, prepared.fresh(prepared.config.seed, architecture)
    ModelUnderTest(module, classes=dataset.classes, input_shape=dataset.shape, device=prepared.device)


def _warn_on_preprocessing_mismatch(prepared: RunSetup) -> RunSetup:
    """With a note when the loaded model does far better on images prepared another way, or with labels moved."""
    if prepared.loaded is None:
        return prepared
    from audit.models.preprocessing_probe import probe_preprocessing

    test, model = prepared.dataset.test, prepared.config.model
    outcome = probe_preprocessing(
        prepared.loaded.module,
        test.batch(balanced_order(test, prepared.config.seed)[:_PROBED]).to(prepared.device),
        mean=np.atleast_1d(0.0 if model.mean is None else model.mean).tolist(),
        std=np.atleast_1d(1.0 if model.std is None else model.std).tolist(),
        classes=prepared.dataset.classes,
        enough=_WELL_PREPARED,
    )
    if not outcome.warning:
        return prepared
    return replace(prepared, loaded=replace(prepared.loaded, notes=(*prepared.loaded.notes, outcome.warning)))


def _subject(config: RunConfig, dataset: Dataset, loaded: LoadedModel | None, *, labelled: bool) -> RunIdentity:
    train = dataset.train
    return RunIdentity(
        classes=dataset.classes,
        shape=dataset.shape,
        test=dataset.test.fingerprint,
        test_examples=len(dataset.test),
        architecture=_architecture_identity(config, dataset),
        train=train.fingerprint if train else "",
        train_examples=len(train) if train else 0,
        loaded=f"file:{loaded.identity}" if loaded else None,
        pretrained=sha256_of(Path(config.model.pretrained)) if config.model.pretrained else "",
        masked=dataset.test.masks is not None,
        labelled=labelled,
    )


def _architecture_identity(config: RunConfig, dataset: Dataset) -> str:
    """The name, or for a user's own file FUNCTION with a hash of its code: a changed file is another model."""
    name = config.model.architecture
    if not is_code(name):
        return name
    bare = config.model.model_copy(update={"weights": None})
    identity = model_identity(bare, classes=dataset.classes, input_shape=dataset.shape, seed=config.seed)
    return f"{Path(name).name}@{identity[:16]}"
