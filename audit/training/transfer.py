"""Transfer learning: pretrained weights under a new head, the backbone frozen first and slower later."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig, TrustConfig
from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.models.key_matching import computed
from audit.models.load import read_checkpoint
from audit.models.load_state import load_state
from audit.models.state_dict import match_module
from audit.training.inner_attack import frozen_eval


def pretrained_state(path: Path, trust: Sequence[TrustConfig] = (), entry: str = "") -> Mapping[str, Tensor]:
    """Read a state dict from a file.

    Args:
        path: A checkpoint in any format that holds a state dict, or a pickled module, of which it is taken.
        trust: The files whose code may run.
        entry: Which of several sets of weights; "" for that which is taken without being asked.

    Returns:
        The tensors by name.

    Raises:
        ModelError: When the file holds a converted model, or cannot be read.
        UntrustedError: When reading it would run code that is not trusted.
    """
    content = read_checkpoint(path, trust, entry)
    if content.state is not None:
        return content.state
    if content.module is None or not content.trusted:  # a converted graph has names of its own
        raise ModelError(f"{path.name} holds a whole model, where a state dict of pretrained weights was expected.")
    return content.module.state_dict()


def load_pretrained(module: nn.Module, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy into a net every pretrained tensor whose name and shape fit.

    A wrapper's prefix and older names do not count; of raw and averaged weights the averaged ones are taken. What stays
    as it was is the new head, and a first convolution for another number of channels.

    Args:
        module: The net, changed in place.
        weights: Pretrained tensors by name.

    Returns:
        The names of the net's tensors that stayed as they were.

    Raises:
        ModelError: When less than half of the net's numbers would be replaced: the architectures differ.
    """
    state = module.state_dict()
    pretrained = match_module(weights, module).known
    fitting = {name: value for name, value in pretrained.items() if state[name].shape == value.shape}
    missing = tuple(name for name in state if name not in fitting and not computed(name))
    if sum(state[name].numel() for name in missing) * 2 > sum(value.numel() for value in state.values()):
        raise ModelError(
            f"The pretrained weights do not fit the architecture: {len(fitting)} of {len(state)} tensors agree in name "
            f"and shape; the first that does not is {missing[0]!r}. Give weights of the same architecture."
        )
    load_state(module, {**state, **fitting})
    return missing


_LISTED_NAMES = 6
OWN_NORMALISATION = note(
    "training_measured",
    "Mean and standard deviation were measured on the training images; --mean and --std say those that the pretrained "
    "weights were made with.",
)


def pretrained_note(module: nn.Module, missing: Sequence[str]) -> Note:
    """Say which tensors of a net were pretrained.

    Args:
        module: The net.
        missing: The names of its other tensors, which `load_pretrained` gave.

    Returns:
        A sentence.
    """
    total = len(module.state_dict())
    if not missing:
        return note(
            "training_adopted_all",
            "The pretrained weights gave all {all} tensors, those of the last layer too.",
            all=total,
        )
    more = f", ... ({len(missing)})" if len(missing) > _LISTED_NAMES else ""
    listed = ", ".join(missing[:_LISTED_NAMES]) + more
    return note(
        "training_adopted",
        "The pretrained weights gave {given} of {all} tensors; new are {listed}.",
        given=total - len(missing),
        all=total,
        listed=listed,
    )


def schedule_notes(module: nn.Module, settings: TrainingConfig) -> Iterator[Note]:
    """Say which layer learns alone and for how long, and at what share of its rate the others learn.

    Args:
        module: The net.
        settings: The configuration of its training.

    Yields:
        Sentences; none for a training in which all layers learn alike.
    """
    head = next(name for name, layer in module.named_modules() if layer is head_of(module))
    frozen, epochs = min(settings.frozen_epochs, settings.epochs), settings.epochs
    if frozen:
        yield note(
            "training_frozen",
            "The last layer, {head}, learnt alone in the first {frozen} of {epochs} epochs.",
            head=head,
            frozen=frozen,
            epochs=epochs,
        )
    if settings.backbone_rate != 1 and frozen < epochs:
        yield note(
            "training_slower",
            "All layers but the last, {head}, learnt at {rate} times its rate.",
            head=head,
            rate=f"{settings.backbone_rate:g}",
        )


def parameter_groups(module: nn.Module, backbone_rate: float, *, head_apart: bool = False) -> list[dict[str, Any]]:
    """Make the optimiser's parameter groups: the backbone, and the head with a factor of 1 on its rate.

    Args:
        module: The net.
        backbone_rate: The backbone's learning rate as a share of the head's; 1 gives one group for all.
        head_apart: Two groups all the same.

    Returns:
        Groups with "params", "factor" and "matrices", which is true of the backbone where the head is apart.
    """
    if backbone_rate == 1 and not head_apart:
        return [{"params": list(module.parameters()), "factor": 1.0, "matrices": False}]
    head = {id(parameter) for parameter in head_of(module).parameters()}
    backbone = [parameter for parameter in module.parameters() if id(parameter) not in head]
    groups = [
        {"params": backbone, "factor": backbone_rate, "matrices": True},
        {"params": list(head_of(module).parameters()), "factor": 1.0, "matrices": False},
    ]
    return [group for group in groups if group["params"]]


def head_of(module: nn.Module) -> nn.Module:
    """Find the last layer that has weights of its own: the one a new set of classes replaces.

    Args:
        module: The net.
    """
    layers = [layer for layer in module.modules() if list(layer.parameters(recurse=False))]
    return layers[-1]


def frozen_backbone(module: nn.Module, frozen: bool) -> AbstractContextManager[None]:
    """Inside the block only the head learns, and the backbone is in eval mode: its batch statistics stay.

    Args:
        module: The net.
        frozen: Whether to do so; else the net stays as it is.
    """
    return frozen_eval(module, head_of(module)) if frozen else nullcontext()


def cached_torchvision_weights(name: str) -> Path:
    """Find the default pretrained weights of a torchvision model in torch's download cache; nothing is fetched.

    Args:
        name: The model's name in torchvision.

    Returns:
        The file.

    Raises:
        ModelError: When it is not there; the message names the file to put there.
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
