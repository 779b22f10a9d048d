"""What a run is planned and computed from: its data, its model and its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from audit.config import RunConfig
from audit.core.note import Note
from audit.data.dataset import Dataset
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.load import fresh_module
from audit.models.loaded import LoadedModel
from audit.models.module_copy import copy_module
from audit.models.resize_layers import match_state_dict
from audit.models.under_test import ModelUnderTest
from audit.planning.run_identity import RunIdentity
from audit.runs.label_numbers import wrap_loaded


@dataclass(frozen=True)
class RunSetup:
    """What a run is planned and computed from.

    Attributes:
        config: The configuration, completed by what the checkpoint's header and the data say.
        dataset: The images.
        subject: The identities of data and model.
        device: Where the model computes.
        loaded: The model of a checkpoint; None where it is trained in the run.
        trusted: The files of code that the run executes, each with "path" and "sha256".
        notes: What the reader should know of the model that is trained in the run.
        requested: The configuration as it was given, which the commands that repeat the run say; None where it is
            `config`.
    """

    config: RunConfig
    dataset: Dataset
    subject: RunIdentity
    device: torch.device
    loaded: LoadedModel | None
    trusted: tuple[Mapping[str, str], ...] = ()
    notes: tuple[Note, ...] = ()
    requested: RunConfig | None = None

    def new_module(self, seed: int, architecture: str | None = None) -> nn.Module:
        """A module with new weights; a copy of a loaded model that came whole, and in the form of a compressed one.

        Args:
            seed: Of the weights.
            architecture: Its architecture; that of the run by default.
        """
        if self.loaded is not None and self.loaded.whole and architecture is None:
            return copy_module(self.loaded.module)
        model = self.config.model
        if architecture is not None:
            model = model.model_copy(update={"architecture": architecture, "outputs": "auto", "output_entry": ""})
        module, _ = fresh_module(model, classes=len(self.dataset.classes), input_shape=self.dataset.shape, seed=seed)
        if self.loaded is not None and architecture is None:
            match_state_dict(module, self.loaded.module.state_dict(), cut=self.loaded.cut)
        return module

    def new_model(self, architecture: str | None = None) -> ModelUnderTest | DetectorUnderTest:
        """A model with new weights, drawn from the seed of the run, without normalisation.

        Args:
            architecture: Its architecture; that of the run by default.
        """
        module = self.new_module(self.config.seed, architecture)
        return ModelUnderTest(module, classes=self.dataset.classes, input_shape=self.dataset.shape, device=self.device)

    def model_factory(self) -> Callable[[], ModelUnderTest | DetectorUnderTest] | None:
        """A function that wraps the loaded model with its normalisation; None where the model is trained in the run."""
        loaded = self.loaded
        if loaded is None:
            return None
        return lambda: wrap_loaded(self.config.model, self.dataset, loaded, self.device)
