"""A surrogate: a small net taught to answer as the model under test does, so that attacks can be made on it instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from audit.config import TrainingConfig
from audit.core.errors import NotApplicable
from audit.core.types import Batch, PassCount
from audit.models.architecture import build, default_for
from audit.models.under_test import ModelUnderTest
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.loop import TrainingResult

FEWEST = 64
"""Images below which there is nothing to learn from."""
EPOCHS = 8


@dataclass(frozen=True)
class Surrogate:
    """`model` answers as the one it was taught by; `trained` holds its weights and history; `architecture` its zoo
    name; `images` how many it learned from; `passes` what that cost, the teacher's included."""

    model: ModelUnderTest
    trained: TrainingResult
    architecture: str
    images: int
    passes: PassCount


def surrogate_of(
    model: ModelUnderTest, batch: Batch, *, seed: int, epochs: int = EPOCHS, watch: TrainingCallbacks | None = None
) -> Surrogate:
    """The zoo's net of matching image size, trained on `batch` under the labels that `model` predicts for it.

    No true label and no gradient of the model is used: what an outsider can do (Papernot et al. 2017,
    arXiv:1602.02697, without its synthetic images). Raises NotApplicable below 64 images, or where the model predicts
    one class for all of them; Interrupted when `watch` asks to stop.
    """
    if len(batch) < FEWEST:
        raise NotApplicable(f"A surrogate is taught on at least {FEWEST} images, and {len(batch)} were given.")
    with model.count() as spent:
        labels = model.predictions(batch.images).cpu()
    if bool((labels == labels[0]).all()):
        raise NotApplicable("The model predicts one class for every image: there is nothing to teach a surrogate.")
    architecture = default_for(model.input_shape)
    module = build(architecture, classes=len(model.classes), input_shape=model.input_shape, seed=seed)
    taught = replace(batch.to("cpu"), labels=labels, broken_if=None, masks=None)
    trained = fit(
        module, taught, training(epochs), classes=len(model.classes), seed=seed, device=model.device, watch=watch
    )
    module.load_state_dict(trained.weights)
    surrogate = ModelUnderTest(
        module,
        classes=model.classes,
        input_shape=model.input_shape,
        mean=trained.mean,
        std=trained.std,
        device=model.device,
    )
    return Surrogate(surrogate, trained, architecture, len(batch), trained.passes + spent.passes)


def agreement(first: ModelUnderTest, second: ModelUnderTest, batch: Batch) -> torch.Tensor:
    """Whether both predict the same class, bool (N,)."""
    return first.predictions(batch.images) == second.predictions(batch.images).to(first.device)


def training(epochs: int) -> TrainingConfig:
    """How surrogates are trained; part of what names their cells."""
    return TrainingConfig(epochs=epochs, batch_size=32)
