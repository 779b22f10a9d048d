"""Read what a run needs before anything is written: data, model, device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from audit.config import RunConfig
from audit.data.dataset import Dataset
from audit.data.load import load_dataset
from audit.errors import UsageError
from audit.models.architecture import default_for
from audit.models.load import LoadedModel, load_model
from audit.models.under_test import ModelUnderTest, resolve_device
from audit.planning import Subject


@dataclass(frozen=True)
class Prepared:
    """Everything a plan and an engine are made from."""

    config: RunConfig
    dataset: Dataset
    subject: Subject
    device: torch.device
    loaded: LoadedModel | None

    def wrapped(self) -> Callable[[], ModelUnderTest] | None:
        """A maker of the loaded model as the suite sees it; None where the model is trained here."""
        loaded = self.loaded
        if loaded is None:
            return None
        return lambda: ModelUnderTest(
            loaded.module,
            classes=self.dataset.classes,
            input_shape=self.dataset.shape,
            mean=loaded.mean,
            std=loaded.std,
            device=self.device,
        )


def prepare(config: RunConfig) -> Prepared:
    """Load the data and, if the configuration names one, the model. Raises the sentences a user reads."""
    device = resolve_device(config.device)
    data = config.data
    dataset = load_dataset(
        data.source, image_size=data.image_size, grayscale=data.grayscale, train_examples=data.train_examples
    )
    architecture = config.model.architecture
    if architecture == "auto":
        architecture = default_for(dataset.shape)
    loaded = None
    if config.model.weights is not None:
        chosen = config.model.model_copy(update={"architecture": architecture})
        loaded = load_model(chosen, classes=dataset.classes, input_shape=dataset.shape, device=device, seed=config.seed)
    needs_training = loaded is None or config.hardening.enabled
    if needs_training and dataset.train is None:
        raise UsageError(
            f"{dataset.name} has no training images, and "
            + ("no --model was given" if loaded is None else "hardening needs some")
            + ". Give data with a train folder"
            + (", or a checkpoint with --model." if loaded is None else ", or --no-harden.")
        )
    return Prepared(config, dataset, _subject(dataset, architecture, loaded), device, loaded)


def _subject(dataset: Dataset, architecture: str, loaded: LoadedModel | None) -> Subject:
    train = dataset.train
    return Subject(
        classes=dataset.classes,
        shape=dataset.shape,
        test=dataset.test.fingerprint,
        test_examples=len(dataset.test),
        architecture=architecture,
        train=train.fingerprint if train else "",
        train_examples=len(train) if train else 0,
        loaded=loaded.identity if loaded else None,
    )
