"""Transfer learning: weights from elsewhere under a new head, the rest frozen first and slower later."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.errors import ModelError
from audit.models.load import read_checkpoint
from audit.models.state_dict import without_prefix


def pretrained_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in the checkpoint `path`. Raises ModelError for a whole model, UntrustedError for code."""
    state = read_checkpoint(path, ()).state
    if state is None:
        raise ModelError(f"{path.name} holds a whole model, where a state dict of pretrained weights was expected.")
    return state


def load_pretrained(module: nn.Module, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy into `module` every tensor of `weights` whose name and shape fit; give the names that stayed as they were.

    A wrapper's prefix before every name is no part of it. What stayed is the new head, and a first convolution for
    another number of channels. Raises ModelError when less than half of the module's weights found a counterpart: the
    two are not the same architecture.
    """
    own = module.state_dict()
    found, _ = without_prefix(weights, own)
    fitting = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    fresh = tuple(name for name in own if name not in fitting)
    if sum(own[name].numel() for name in fresh) * 2 > sum(value.numel() for value in own.values()):
        raise ModelError(
            f"The pretrained weights do not fit the architecture: {len(fitting)} of {len(own)} tensors agree in name "
            f"and shape; the first that does not is {fresh[0]!r}. Give weights of the same architecture."
        )
    module.load_state_dict({**own, **fitting})
    return fresh


_LISTED = 6
OWN_NORMALISATION = (
    "Mean and standard deviation were measured on the training images; --mean and --std say those that the pretrained "
    "weights were made with."
)


def adoption_note(module: nn.Module, fresh: Sequence[str]) -> str:
    """Which tensors of `module` `adopt` found, and which stayed new."""
    total = len(module.state_dict())
    if not fresh:
        return f"The pretrained weights gave all {total} tensors, those of the last layer too."
    more = f", ... ({len(fresh)})" if len(fresh) > _LISTED else ""
    listed = ", ".join(fresh[:_LISTED]) + more
    return f"The pretrained weights gave {total - len(fresh)} of {total} tensors; new are {listed}."


def schedule_notes(module: nn.Module, settings: TrainingConfig) -> Iterator[str]:
    """Which layer learns alone and for how long, and how slowly the others follow."""
    head = next(name for name, part in module.named_modules() if part is head_of(module))
    frozen, epochs = min(settings.frozen_epochs, settings.epochs), settings.epochs
    if frozen:
        yield f"The last layer, {head}, learnt alone in the first {frozen} of {epochs} epochs."
    if settings.backbone_rate != 1 and frozen < epochs:
        yield f"All layers but the last, {head}, learnt at {settings.backbone_rate:g} times its rate."


def parameter_groups(module: nn.Module, backbone_rate: float) -> list[dict[str, Any]]:
    """The last layer with rate factor 1 and everything else with `backbone_rate`, for the optimiser.

    One group for all when `backbone_rate` is 1.
    """
    if backbone_rate == 1:
        return [{"params": list(module.parameters()), "factor": 1.0}]
    head = {id(parameter) for parameter in head_of(module).parameters()}
    return [
        {"params": [p for p in module.parameters() if id(p) not in head], "factor": backbone_rate},
        {"params": list(head_of(module).parameters()), "factor": 1.0},
    ]


def head_of(module: nn.Module) -> nn.Module:
    """The last layer that has weights of its own: the one a new set of classes replaces."""
    layers = [part for part in module.modules() if list(part.parameters(recurse=False))]
    return layers[-1]


@contextmanager
def frozen_backbone(module: nn.Module, frozen: bool) -> Iterator[None]:
    """Inside the block, when `frozen`, only the head learns, and the rest runs as in use: its batch statistics stay."""
    if not frozen:
        yield
        return
    head = head_of(module)
    kept = [p for p in module.parameters() if p.requires_grad and all(p is not own for own in head.parameters())]
    flags = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        head.train()
        for parameter in kept:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, flag in flags:
            part.training = flag
        for parameter in kept:
            parameter.requires_grad_(True)


def cached_torchvision_weights(name: str) -> Path:
    """The file of the default pretrained weights of torchvision's `name` in its download cache; nothing is fetched.

    Raises ModelError that names the file to put there.
    """
    models = importlib.import_module("torchvision.models")
    url = str(models.get_model_weights(name).DEFAULT.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        raise ModelError(
            f"The pretrained weights of torchvision:{name} are not in torch's cache. Nothing is downloaded during a "
            f"run: fetch {url} into {path.parent}, or give a file of weights."
        )
    return path
