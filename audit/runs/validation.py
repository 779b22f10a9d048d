"""Checks of a configuration before its run begins: training data, pretrained weights, what can be compressed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from audit.config import CompressionConfig, ModelConfig, RunConfig
from audit.core.errors import UsageError
from audit.core.note import Note, note
from audit.core.registry import find
from audit.core.threat_format import usual_eps
from audit.data.dataset import Dataset
from audit.models.architecture import ZOO
from audit.models.compression.compress import amount_of
from audit.models.compression.structured_pruning import probe_images, prune_channels
from audit.models.files import is_code, require_file
from audit.models.loaded import InputShape, LoadedModel
from audit.planning.models import TRAINED
from audit.runs.checkpoint_metadata import read_metadata
from audit.training.callbacks import require_tensorboard
from audit.training.transfer import cached_torchvision_weights, load_pretrained, pretrained_state

_TORCHVISION = "torchvision"
_OTHER_NETS: Mapping[str, Mapping[str, Any]] = {
    "training": {"optimizer": "adam", "learning_rate": 2e-3, "epochs": 8},
    "hardening": {"recipe": "pgd", "optimizer": "adam", "learning_rate": 1e-3, "epochs": 6},
}
"""Defaults for nets that are not the zoo's, by table."""
_LARGER_ZOO: Mapping[str, Any] = {"recipe": "pgd", "optimizer": "adam", "learning_rate": 4e-3, "epochs": 6}
"""Defaults of hardening for the zoo's other nets than cnn-28, on which alone FGSM-RS and Muon were found better."""
_PROVING: Mapping[str, Any] = {"optimizer": "adam", "learning_rate": 4e-3, "epochs": 6}
"""Defaults of hardening by recipes that train for proofs."""
_FEWEST_STEPS = 400
"""Steps that the hardening of a net of the zoo takes at least."""
_MOST_EPOCHS = 16
"""Epochs that a small number of images is hardened on at most, where the configuration does not say."""


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

    The zoo's small nets learn best by Muon at high rates. A briefly trained resnet18 (four classes of CIFAR-10 at
    96x96, three epochs of PGD) kept 42% of images right when it was hardened by Adam at 0.004, and 56% with the same
    25% under attack at 0.001. Of cnn-32 on 2,000 images of CIFAR-10, PGD by Adam left 15% right under attack, and by
    Muon 10%, with 33% and 40% right of clean ones. Hardening by recipes that train for proofs was measured with Adam,
    and keeps it. Where images are few, cnn-28 is hardened for more epochs, for it needs some hundred steps.

    Args:
        config: The configuration of the run.
        images: The number of training images.
    """
    of_zoo, hardening = config.model.architecture in ZOO, config.hardening
    defaults: dict[str, Mapping[str, Any]] = {} if of_zoo else dict(_OTHER_NETS)
    if find("recipe", hardening.recipe).facts.get("proves"):
        defaults["hardening"] = {**_PROVING, **defaults.get("hardening", {})}
    elif of_zoo and config.model.architecture != "cnn-28":
        defaults["hardening"] = _LARGER_ZOO
    elif of_zoo:
        steps = max(1, int(images * (1 - hardening.held_out)) // hardening.batch_size)
        epochs = min(_MOST_EPOCHS, max(hardening.epochs, -(-_FEWEST_STEPS // steps)))
        defaults["hardening"] = {"epochs": epochs}
    changed = {}
    for name, values in defaults.items():
        table = config.training if name == "training" else hardening
        changes = {key: value for key, value in values.items() if key not in table.model_fields_set}
        changed[name] = table.model_copy(update=changes)
    return config.model_copy(update=changed)


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
