"""Checks of a configuration before its run begins: training data, pretrained weights, what can be compressed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from audit.config import CompressionConfig, ModelConfig, RunConfig
from audit.core.errors import UsageError
from audit.core.note import Note, note
from audit.core.threat_format import usual_eps
from audit.data.dataset import Dataset
from audit.models.compression.compress import amount_of
from audit.models.compression.structured_pruning import probe_images, prune_channels
from audit.models.files import is_code, require_file
from audit.models.loaded import InputShape, LoadedModel
from audit.planning.models import TRAINED
from audit.runs.checkpoint_metadata import read_metadata
from audit.training.callbacks import require_tensorboard
from audit.training.defaults import suited_hardening, suited_training
from audit.training.transfer import cached_torchvision_weights, load_pretrained, pretrained_state

_TORCHVISION = "torchvision"


def needs_training_data(compression: CompressionConfig) -> bool:
    """Whether compressing takes training images.

    Args:
        compression: How the model is compressed.
    """
    return compression.enabled and compression.method in TRAINED and compression.epochs > 0


def wants_tensorboard(config: RunConfig) -> bool:
    """Whether a training writes TensorBoard's event files.

    Args:
        config: The configuration of the run.

    Raises:
        SetupError: It does, and the package is missing.
    """
    if config.training.tensorboard or config.hardening.tensorboard:
        require_tensorboard()
        return True
    return False


def check_frozen_epochs(config: RunConfig) -> None:
    """Layers that stay frozen at first must not begin random.

    Args:
        config: The configuration of the run.

    Raises:
        UsageError: No weights are named to begin from.
    """
    if config.training.frozen_epochs and config.model.pretrained is None and not config.model.loads:
        raise UsageError(
            "--frozen-epochs keeps all layers but the last as they begin, and without --pretrained they begin random: "
            "give weights to start from, or leave --frozen-epochs out."
        )


def with_pretrained(model: ModelConfig, channels: int) -> ModelConfig:
    """The configuration with the path of its pretrained weights, and with their normalisation where it names none.

    Args:
        model: The configuration of the model.
        channels: Of the images.

    Raises:
        ModelError: The file is absent.
        UsageError: The configuration also loads a finished model.
    """
    if model.pretrained is None:
        return model
    if model.weights is not None:
        raise UsageError(
            "--pretrained starts a training from weights of other classes, and --model loads a finished model: give "
            "one of the two."
        )
    path = _cached(model) if model.pretrained == _TORCHVISION else require_file(model.pretrained)
    return model.model_copy(update={"pretrained": str(path), **_normalisation(model, path, channels)})


def check_training_images(config: RunConfig, dataset: Dataset) -> None:
    """A run that trains needs training images; asked before a model is read, which may take long.

    Args:
        config: The configuration of the run.
        dataset: Its images.

    Raises:
        UsageError: It has none.
    """
    trains = config.hardening.enabled or needs_training_data(config.compression)
    loads = config.model.loads
    if dataset.train is not None or (loads and not trains):
        return
    lacking = "hardening and fine-tuning need some" if loads else "no --model was given"
    remedy = "or --no-harden" if loads else "or a checkpoint with --model"
    raise UsageError(f"{dataset.name} has no training images, and {lacking}: give data with a train folder, {remedy}.")


def check_pretrained_fits(model: ModelConfig, module: Callable[[], nn.Module]) -> None:
    """Pretrained weights must fit the architecture that they begin.

    Args:
        model: The configuration of the model.
        module: Makes a module of that architecture.

    Raises:
        ModelError: They do not fit.
    """
    if model.pretrained is not None:
        load_pretrained(module(), pretrained_state(Path(model.pretrained), model.trust, model.weights_entry))


def with_suited_defaults(config: RunConfig, images: int) -> RunConfig:
    """The configuration with the defaults of training and hardening that suit the net, the recipe and the images.

    Args:
        config: The configuration of the run.
        images: The number of training images.
    """
    architecture = config.model.architecture
    training = suited_training(config.training, architecture)
    return config.model_copy(
        update={"training": training, "hardening": suited_hardening(config.hardening, architecture, images)}
    )


def check_can_reinitialise(config: RunConfig, loaded: LoadedModel | None) -> None:
    """A model that came whole, without an architecture to build again, cannot be trained from new weights.

    Args:
        config: The configuration of the run.
        loaded: The loaded model, if any.

    Raises:
        UsageError: The configuration asks for that, or names a student that is code.
    """
    student = config.compression.student
    if student is not None and is_code(student):
        raise UsageError(f"The student {student!r} is code; name one of the zoo, torchvision:NAME or timm:NAME.")
    if loaded is None or not loaded.whole:
        return
    if config.hardening.enabled and config.hardening.from_scratch:
        raise UsageError(
            f"{loaded.origin} brings its architecture, which cannot be built again with new weights; leave "
            "--from-scratch out, or give a state dict with --architecture."
        )
    if config.compression.enabled and config.compression.method == "distill" and student is None:
        raise UsageError(
            f"{loaded.origin} brings its architecture, which cannot be built again with new weights; name the "
            "student's with --student."
        )


def check_prunable(compression: CompressionConfig, module: Callable[[], nn.Module], shape: InputShape) -> None:
    """Structured pruning must be able to take channels from the net.

    Args:
        compression: How the model is compressed.
        module: Makes the module to prune.
        shape: Of an image, (C, H, W).

    Raises:
        UsageError: It can take none.
        SetupError: The library is missing.
    """
    if compression.enabled and compression.method == "structured":
        share = amount_of(compression.method, compression.amount) or 0.0
        prune_channels(module(), share, probe_images(shape))


def _cached(model: ModelConfig) -> Path:
    library, _, name = model.architecture.partition(":")
    if library != _TORCHVISION:
        raise UsageError(
            f"--pretrained torchvision goes with --architecture torchvision:NAME, not with {model.architecture!r}; "
            "give a file of weights."
        )
    return cached_torchvision_weights(name)


def _normalisation(model: ModelConfig, path: Path, channels: int) -> dict[str, tuple[float, ...]]:
    header = read_metadata(str(path))
    if "mean" not in header or model.mean is not None or model.std is not None:
        return {}
    values = {name: tuple(json.loads(header[name])) for name in ("mean", "std")}
    return values if len(values["mean"]) == channels else {}


_SMALL = 0.1
"""The share of the usual eps below which one is remarked on."""


def note_on_eps(config: RunConfig, shape: InputShape) -> Note | None:
    """A note where the eps is far below what is usual for its norm, as 8/255 is in l2; None where it is not.

    Args:
        config: The configuration of the run.
        shape: Channels, height and width of an image.
    """
    threat = config.robustness
    usual = usual_eps(threat.norm, shape)
    if threat.eps is None or threat.norm == "linf" or threat.eps >= _SMALL * usual:
        return None
    return note(
        "small_eps",
        "An eps of {eps} is small for {norm}, where {usual} is usual on images of this size: hardly any model fails "
        "within it, so that passing says little.",
        eps=f"{threat.eps:.3g}",
        norm=threat.norm,
        usual=f"{usual:g}",
    )
