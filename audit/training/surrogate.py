"""A surrogate: a small net trained on the predictions of the model under test, for transfer attacks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from audit.config import TrainingConfig
from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.types import Batch, PassCount
from audit.models.architecture import build, default_for
from audit.models.load_state import load_state
from audit.models.under_test import ModelUnderTest
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.state import TrainingResult

MIN_SURROGATE_IMAGES = 64
"""Fewer images are refused: there is too little to learn from."""
SURROGATE_EPOCHS = 8


@dataclass(frozen=True)
class Surrogate:
    """A surrogate and how it was made.

    Attributes:
        model: The surrogate.
        trained: Its weights and history.
        architecture: Its name in the zoo.
        images: How many images it learnt from.
        passes: What that cost in examples, those of the model under test included.
    """

    model: ModelUnderTest
    trained: TrainingResult
    architecture: str
    images: int
    passes: PassCount


def surrogate_of(
    model: ModelUnderTest,
    batch: Batch,
    *,
    seed: int,
    epochs: int = SURROGATE_EPOCHS,
    callbacks: TrainingCallbacks | None = None,
) -> Surrogate:
    """Train the zoo's net of matching image size under the labels that a model predicts.

    No true label and no gradient of the model is used, which is what an attacker without access to it can do
    (Papernot et al. 2017, arXiv:1602.02697, without its synthetic images).

    Args:
        model: The model under test.
        batch: Images to learn from, on any device.
        seed: The seed of the surrogate's weights and of its training.
        epochs: Epochs of the training.
        callbacks: What to call on the way.

    Returns:
        The surrogate.

    Raises:
        NotApplicable: Below 64 images, or where the model predicts one class for all of them.
        Interrupted: When `callbacks.stopping` asked to stop.
    """
    if len(batch) < MIN_SURROGATE_IMAGES:
        raise NotApplicable(
            note(
                "surrogate_few",
                "A surrogate is taught on at least {fewest} images, and {given} were given.",
                fewest=MIN_SURROGATE_IMAGES,
                given=len(batch),
            )
        )
    with model.count() as counter:
        labels = model.predictions(batch.images).cpu()
    if bool((labels == labels[0]).all()):
        raise NotApplicable(
            note(
                "surrogate_one", "The model predicts one class for every image: there is nothing to teach a surrogate."
            )
        )
    architecture = default_for(model.input_shape)
    module = build(architecture, classes=len(model.classes), input_shape=model.input_shape, seed=seed)
    labelled = replace(batch.to("cpu"), labels=labels, adversarial_classes=None, masks=None)
    settings, classes = surrogate_settings(epochs), len(model.classes)
    trained = fit(module, labelled, settings, classes=classes, seed=seed, device=model.device, callbacks=callbacks)
    load_state(module, trained.weights)
    surrogate = ModelUnderTest(
        module,
        classes=model.classes,
        input_shape=model.input_shape,
        mean=trained.mean,
        std=trained.std,
        device=model.device,
    )
    return Surrogate(surrogate, trained, architecture, len(batch), trained.passes + counter.passes)


def same_predictions(first: ModelUnderTest, second: ModelUnderTest, batch: Batch) -> torch.Tensor:
    """Tell for each image whether two models predict the same class.

    Args:
        first: A model.
        second: Another of the same classes.
        batch: The images.

    Returns:
        bool (N,), on the device of `first`.
    """
    return first.predictions(batch.images) == second.predictions(batch.images).to(first.device)


def surrogate_settings(epochs: int) -> TrainingConfig:
    """Give the configuration that surrogates are trained with.

    Args:
        epochs: Epochs of the training.
    """
    return TrainingConfig(epochs=epochs, batch_size=32, optimizer="adam", learning_rate=2e-3)
