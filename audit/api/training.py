"""Training and adversarial training on tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import nn

from audit.api.inputs import as_image_tensor, as_label_tensor, given_image_notes
from audit.config import HardeningConfig, TrainingConfig, TrustConfig
from audit.core.errors import DataError, UsageError
from audit.core.seeding import content_ids
from audit.core.threat import ThreatModel
from audit.core.types import Batch, PassCount
from audit.metrics.model_checks import Use, doubts
from audit.models.ambient_torch import in_plain_torch
from audit.models.architecture import build, default_for
from audit.models.devices import resolve_device
from audit.models.files import require_file
from audit.models.formats.safetensors_file import with_metadata
from audit.models.load_state import load_state
from audit.models.module_copy import copy_module
from audit.models.under_test import ModelUnderTest, require_wrapped
from audit.runs.checkpoint_metadata import numbered_header
from audit.storage.store import write_atomically
from audit.training.defaults import suited_hardening, suited_training
from audit.training.fit import fit
from audit.training.state import TrainingResult
from audit.training.transfer import load_pretrained, pretrained_state

_Table = TypeVar("_Table", bound=TrainingConfig)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
        model: The model.
        architecture: Its name.
        history: A row an epoch.
        kept_epoch: The epoch whose weights these are, from 1.
        passes: The cost of the training, in images.
        notes: What a reader should know of the images, the training and the trained model; empty for none.
    """

    model: ModelUnderTest
    architecture: str
    history: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    passes: PassCount
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors, with what `audit run --model` needs in the header.

        Args:
            path: The file.
        """
        model = self.model
        header = {
            "architecture": self.architecture,
            "classes": json.dumps(model.classes),
            "input_shape": json.dumps(model.input_shape),
            "mean": json.dumps(model.mean),
            "std": json.dumps(model.std),
            **numbered_header(model.classes),
        }
        weights = {name: tensor.cpu().clone().contiguous() for name, tensor in model.net.state_dict().items()}
        write_atomically(Path(path), with_metadata(save(weights), header))


@in_plain_torch
def train(
    images: Any,
    labels: Any,
    *,
    classes: Sequence[str] | int,
    architecture: str = "auto",
    pretrained: str | Path | None = None,
    trust: Sequence[str | Path] = (),
    threat: ThreatModel | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
    **settings: Any,
) -> TrainedModel:
    """Train a new model.

    Args:
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        classes: The names of the classes, or their number.
        architecture: A zoo name, torchvision:NAME or timm:NAME; auto for the classical net of the images' size.
        pretrained: A checkpoint of the same architecture, perhaps for other classes, to start from.
        trust: Files whose code may run, such as `pretrained` where it is more than data.
        threat: The threat model, which adversarial recipes need.
        seed: Of all draws.
        device: auto, cpu, cuda, cuda:1, mps or a torch device.
        **settings: Keys of [training]: recipe, epochs, optimizer, ...

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: A setting is unknown or wrong, or there is no such architecture.
    """
    tensor = torch.as_tensor(images)
    if tensor.ndim != 4:
        raise DataError(f"Images have shape {tuple(tensor.shape)}, where (N, channels, height, width) was expected.")
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    shape = (tensor.shape[1], tensor.shape[2], tensor.shape[3])
    name = default_for(shape) if architecture == "auto" else architecture
    module = build(name, classes=len(names), input_shape=shape, seed=seed)
    if pretrained is not None:
        trusted = tuple(TrustConfig(path=str(path)) for path in trust)
        load_pretrained(module, pretrained_state(require_file(pretrained), trusted))
    untrained = ModelUnderTest(module, classes=names, input_shape=shape, device=device)
    config = suited_training(_settings(TrainingConfig, settings), name)
    trained = _fit(module, _batch(untrained, tensor, labels), config, untrained, name, None, None, threat, seed)
    return replace(trained, notes=(*given_image_notes(images), *trained.notes))


@in_plain_torch
def harden(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    seed: int = 0,
    **settings: Any,
) -> TrainedModel:
    """Adversarially train a copy of a model, from its weights.

    Args:
        model: The model, from `wrap`; it is left as it is.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        threat: The norm and the eps to train against.
        seed: Of all draws.
        **settings: Keys of [hardening]: recipe ("pgd", "fgsm-rs", ...), epochs, ...

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: A setting is unknown or wrong.
    """
    require_wrapped(model)
    module = copy_module(model.net)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    batch = _batch(model, images, labels)
    config = suited_hardening(_settings(HardeningConfig, settings), None, len(batch))
    trained = _fit(module, batch, config, model, type(model.net).__name__, model.mean, model.std, threat, seed)
    return replace(trained, notes=(*given_image_notes(images), *trained.notes))


def _batch(model: ModelUnderTest, images: Any, labels: Any) -> Batch:
    pixels = as_image_tensor(model, images)
    classes = as_label_tensor(labels, len(pixels), len(model.classes))
    return Batch(pixels, classes, content_ids(pixels)).to("cpu")


def _settings(kind: type[_Table], settings: Mapping[str, Any]) -> _Table:
    from pydantic import ValidationError

    from audit.core.errors import unknown_name

    for name in settings:
        if name not in kind.model_fields:
            raise unknown_name("training setting", name, kind.model_fields)
    try:
        return kind.model_validate(settings)
    except ValidationError as fault:
        first = fault.errors()[0]
        raise UsageError(f"Training setting {first['loc'][0]!r}: {first['msg']}.") from None


def _fit(
    module: nn.Module,
    batch: Batch,
    settings: TrainingConfig,
    like: ModelUnderTest,
    architecture: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    threat: ThreatModel | None,
    seed: int,
) -> TrainedModel:
    trained: TrainingResult = fit(
        module,
        batch,
        settings,
        classes=len(like.classes),
        threat=threat,
        seed=seed,
        mean=mean,
        std=std,
        device=resolve_device(like.device),
        nproc=settings.nproc if settings.nproc > 1 else None,
    )
    load_state(module, trained.weights)
    model = ModelUnderTest(
        module,
        classes=like.classes,
        input_shape=like.input_shape,
        mean=trained.mean,
        std=trained.std,
        device=like.device,
    )
    use: Use = "answers" if threat is None else "gradients"
    notes = tuple(map(str, (*trained.notes, *model.notes, *doubts(model, batch, seed, use))))
    return TrainedModel(model, architecture, trained.history, trained.kept_epoch, trained.passes, notes)
