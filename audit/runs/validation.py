"""Where the weights of a training come from: drawn anew, or pretrained elsewhere; checked before a run begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from audit.config import CompressionConfig, ModelConfig, RunConfig
from audit.core.errors import UsageError
from audit.models.architecture import ZOO
from audit.models.compression.compress import amount_of
from audit.models.compression.structured_pruning import probe_images, prune_channels
from audit.models.files import require_file
from audit.models.formats.user_code import is_code
from audit.models.loaded import InputShape, LoadedModel
from audit.planning.models import TRAINED
from audit.runs.checkpoint_metadata import read_metadata
from audit.training.callbacks import require_tensorboard
from audit.training.transfer import cached_torchvision_weights, load_pretrained, pretrained_state

_TORCHVISION = "torchvision"
_RATE = 1e-3


def needs_training_data(compression: CompressionConfig) -> bool:
    """Whether compressing takes training images."""
    return compression.enabled and compression.method in TRAINED and compression.epochs > 0


def wants_tensorboard(config: RunConfig) -> bool:
    """Whether event files are wanted. Raises SetupError where their package is missing."""
    if config.training.tensorboard or config.hardening.tensorboard:
        require_tensorboard()
        return True
    return False


def check_frozen_epochs(config: RunConfig) -> None:
    """Layers that stay frozen must have learnt something. Raises UsageError."""
    if config.training.frozen_epochs and config.model.pretrained is None and config.model.weights is None:
        raise UsageError(
            "--frozen-epochs keeps all layers but the last as they begin, and without --pretrained they begin random: "
            "give weights to start from, or leave --frozen-epochs out."
        )


def with_pretrained(model: ModelConfig, channels: int) -> ModelConfig:
    """`model` with the path of its pretrained weights written out, and the normalisation they were trained with where
    the file names it and the configuration does not.

    Raises ModelError for a file that is absent, UsageError beside a loaded model.
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


def check_pretrained_fits(model: ModelConfig, module: Callable[[], nn.Module]) -> None:
    """Pretrained weights of another architecture are refused before anything is written. Raises ModelError."""
    if model.pretrained is not None:
        load_pretrained(module(), pretrained_state(Path(model.pretrained)))


def with_default_learning_rate(config: RunConfig) -> RunConfig:
    """With a lower learning rate of hardening where none was given and the net is not the zoo's.

    The zoo's small nets harden best at 0.004. A briefly trained resnet18 (four classes of CIFAR-10 at 96x96, three
    epochs of PGD) kept 42% of images right at that rate, and 56% with the same 25% under attack at this one.
    """
    hardening = config.hardening
    if "learning_rate" in hardening.model_fields_set or config.model.architecture in ZOO:
        return config
    return config.model_copy(update={"hardening": hardening.model_copy(update={"learning_rate": _RATE})})


def check_can_reinitialise(config: RunConfig, loaded: LoadedModel | None) -> None:
    """A model that came whole, without an architecture to build again, cannot be trained from new weights.

    Raises UsageError, also for a student that is code.
    """
    student = config.compression.student
    if student is not None and is_code(student):
        raise UsageError(f"The student {student!r} is code; name one of the zoo, torchvision:NAME or timm:NAME.")
    if loaded is None or not loaded.whole:
        return
    if config.hardening.enabled and config.hardening.from_scratch:
        raise UsageError(
            f"{loaded.origin} brings its own architecture, which cannot be built again with new weights; leave "
            "--from-scratch out, or give a state dict with --architecture."
        )
    if config.compression.enabled and config.compression.method == "distill" and student is None:
        raise UsageError(
            f"{loaded.origin} brings its own architecture, which cannot be built again with new weights; name the "
            "student's with --student."
        )


def check_prunable(compression: CompressionConfig, module: Callable[[], nn.Module], shape: InputShape) -> None:
    """A net that structured pruning can take no channel from is refused before anything is measured.

    Raises UsageError, SetupError where the library is missing.
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
    found = {name: tuple(json.loads(header[name])) for name in ("mean", "std")}
    return found if len(found["mean"]) == channels else {}
