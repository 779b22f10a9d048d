"""Reads what a run needs before anything is written: data, model, device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.config import ModelConfig, RunConfig
from audit.core.errors import UsageError
from audit.data.cohorts import cohorts_fingerprint
from audit.data.concept_images import concept_identity
from audit.data.dataset import Dataset
from audit.data.foreign import foreign_split
from audit.data.formats.image import labelled_as
from audit.data.load import format_of
from audit.data.sampling import balanced_order
from audit.models.architecture import default_for
from audit.models.compression.static_int8 import require_onnxruntime
from audit.models.devices import resolve_device
from audit.models.files import is_code, require_trusted_files, sha256_of
from audit.models.identity import model_identity
from audit.models.load import fresh_module, read_checkpoint, with_own_normalisation
from audit.models.loaded import LoadedModel
from audit.models.normalised_model import normalisation
from audit.models.own_weights import with_own_weights
from audit.models.under_test import ModelUnderTest
from audit.planning.run_identity import RunIdentity
from audit.runs.checkpoint_metadata import align_labels, apply_architecture, apply_input_format, output_names
from audit.runs.detection_setup import detects, set_up_detection
from audit.runs.label_numbers import load_with_labels, wrap_loaded
from audit.runs.preparation import preparation_notes
from audit.runs.run_setup import RunSetup
from audit.runs.trainable import without_impossible_hardening
from audit.runs.training_images import load_images, without_needless_hardening
from audit.runs.validation import (
    check_can_reinitialise,
    check_frozen_epochs,
    check_pretrained_fits,
    check_prunable,
    check_training_images,
    note_on_eps,
    wants_tensorboard,
    with_pretrained,
    with_suited_defaults,
)
from audit.topics.refusal.config import RefusalConfig
from audit.training.distributed import require_cards, require_exchanges

_PROBED = 100
_WELL_PREPARED = 0.85
"""The accuracy on `_PROBED` images above which other preparations are not tried."""


def set_up(config: RunConfig) -> RunSetup:
    """Read the data and, where the configuration names one, the model, before anything is written.

    Args:
        config: The configuration of the run.

    Returns:
        The setup, its configuration completed by what the checkpoint's header and the data say.

    Raises:
        AuditError: The data, the model, the device or a library is missing, wrong, or does not fit the rest.
        UsageError: The data has boxes, and the run is of a classifier.
    """
    if detects(config):
        return set_up_detection(config)
    if format_of(config.data.source).facts["boxes"]:
        raise UsageError(
            f"{config.data.source!r} has boxes, and a classifier needs one label an image: give other data, or leave "
            "--task out to audit a detector."
        )
    requested, device = config, resolve_device(config.device)
    if (processes := max(config.training.nproc, config.hardening.nproc if config.hardening.enabled else 1)) > 1:
        alone = config.engine == "in-process" and config.jobs in (None, 1)
        (require_cards if alone else require_exchanges)(processes, device)
    wants_tensorboard(config)
    check_frozen_epochs(config)
    data = apply_input_format(config.data, config.model)
    dataset = align_labels(load_images(config.model_copy(update={"data": data})), data, config.model)
    if (remark := note_on_eps(config, dataset.shape)) is not None:
        dataset = replace(dataset, notes=(*dataset.notes, remark))
    model = with_pretrained(_with_architecture(config.model, dataset), dataset.shape[0])
    normalisation(model.mean, model.std, dataset.shape[0])  # refuses what does not fit, before anything is trained
    model, notes = with_own_weights(model, classes=len(dataset.classes), input_shape=dataset.shape, seed=config.seed)
    config, dataset = without_needless_hardening(config.model_copy(update={"model": model}), dataset)
    check_training_images(config, dataset)
    loaded = None
    if model.loads:
        named = bool(output_names(data, config.model)) or data.labels_map is not None
        loaded, dataset = load_with_labels(model, dataset, config, device, named=named)
        loaded, model = with_own_normalisation(loaded, model)
        model = model.model_copy(update={"architecture": loaded.architecture})
    data = data.model_copy(update={"pixel_range": dataset.pixel_range}) if dataset.pixel_range else data
    config = config.model_copy(update={"data": data, "model": model})
    config = with_suited_defaults(config, len(dataset.train) if dataset.train else 0)
    check_can_reinitialise(config, loaded)
    labelled = bool((dataset.test.labels >= 0).all())
    wrapped = None
    if loaded is not None:
        wrapped = wrap_loaded(config.model, dataset, loaded, device)
        if not labelled:  # what the model predicts stands in
            images = dataset.test.batch(slice(None)).images
            dataset = labelled_as(dataset, wrapped.predictions(images).cpu().numpy())
        config, loaded = without_impossible_hardening(config, loaded, wrapped)
    identity = _identity(config, dataset, loaded, labelled=labelled)
    setup = RunSetup(config, dataset, identity, device, loaded, notes=notes, requested=requested)
    _check_models_run(setup)
    setup = replace(setup, trusted=_trusted_files(setup), loaded=_with_notes(setup, wrapped))
    require_trusted_files(config.model.trust)
    return setup


def _with_architecture(model: ModelConfig, dataset: Dataset) -> ModelConfig:
    """With what the checkpoint's header says where the configuration is silent, and auto made a name."""
    model = apply_architecture(model, dataset.classes)
    if model.architecture == "auto" and model.weights is None:
        return model.model_copy(update={"architecture": default_for(dataset.shape)})
    return model


def _identity(config: RunConfig, dataset: Dataset, loaded: LoadedModel | None, *, labelled: bool) -> RunIdentity:
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
        pretrained=_pretrained_identity(config),
        masked=dataset.test.masks is not None,
        labelled=labelled,
        concepts=_concept_identities(config),
        cohorts=cohorts_fingerprint(dataset.test.cohorts),
        foreign=_foreign_identity(config, dataset),
    )


def _concept_identities(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """By name of a concept of the user's, what its images are; refused here where a folder has too few."""
    folders = config.explanations.concept_folders
    return tuple((name, concept_identity(Path(folder))) for name, folder in folders.items())


def _foreign_identity(config: RunConfig, dataset: Dataset) -> str:
    """The fingerprint of the images that the user names as foreign; empty where none are."""
    foreign = config.table(RefusalConfig).foreign
    return foreign_split(foreign, dataset.shape).fingerprint if foreign else ""


def _pretrained_identity(config: RunConfig) -> str:
    """SHA-256 of the file, with the entry of its weights where one is asked for; empty for new weights."""
    model = config.model
    if not model.pretrained:
        return ""
    return sha256_of(Path(model.pretrained)) + (f":{model.weights_entry}" if model.weights_entry else "")


def _architecture_identity(config: RunConfig, dataset: Dataset) -> str:
    """The name, or for a user's file FUNCTION with a hash of its code: a changed file is another model."""
    name = config.model.architecture
    if not is_code(name):
        return name
    unweighted = config.model.model_copy(update={"weights": None})
    identity = model_identity(unweighted, classes=dataset.classes, input_shape=dataset.shape, seed=config.seed)
    return f"{Path(name).name}@{identity[:16]}"


def _check_models_run(setup: RunSetup) -> None:
    """Refuse models that the run makes and that cannot take these images, before anything is written."""
    compression = setup.config.compression
    if setup.loaded is None:
        setup.new_model()
        check_pretrained_fits(setup.config.model, lambda: setup.new_module(setup.config.seed))
    if compression.enabled and compression.student is not None:
        setup.new_model(compression.student)
    if compression.enabled and compression.method == "int8" and setup.dataset.train is not None:
        require_onnxruntime()
    check_prunable(
        compression,
        lambda: setup.loaded.module if setup.loaded else setup.new_module(setup.config.seed),
        setup.dataset.shape,
    )


def _trusted_files(setup: RunSetup) -> tuple[Mapping[str, str], ...]:
    """The files of code this run executes, with their hashes."""
    if setup.loaded is not None:
        return setup.loaded.trusted
    dataset = setup.dataset
    model = setup.config.model
    _, files = fresh_module(model, classes=len(dataset.classes), input_shape=dataset.shape, seed=0)
    if model.pretrained and model.trust:
        files = (*files, *read_checkpoint(Path(model.pretrained), model.trust).trusted)
    return tuple(file.row() for file in files)


def _with_notes(setup: RunSetup, wrapped: ModelUnderTest | None) -> LoadedModel | None:
    """The loaded model, with notes on how its outputs are read.

    Others are added where its own images seem prepared otherwise, and when it does far better on images prepared
    another way, or with labels moved.
    """
    if setup.loaded is None or wrapped is None:
        return None
    from audit.models.preprocessing_probe import probe_preprocessing

    test, model = setup.dataset.test, setup.config.model
    outcome = probe_preprocessing(
        wrapped.net,
        test.batch(balanced_order(test, setup.config.seed)[:_PROBED]).to(setup.device),
        mean=np.atleast_1d(0.0 if model.mean is None else model.mean).tolist(),
        std=np.atleast_1d(1.0 if model.std is None else model.std).tolist(),
        classes=setup.dataset.classes,
        skip_above=_WELL_PREPARED,
        reader=wrapped.reader,
    )
    differing = preparation_notes(setup.config.data, model, setup.dataset)
    warning = (outcome.warning,) if outcome.warning else ()
    return replace(setup.loaded, notes=(*setup.loaded.notes, *differing, *warning, *wrapped.reader.notes))
