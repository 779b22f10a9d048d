"""The form in which a module is run: a frozen copy in float32 by preference, and others where that does not run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audit.core.note import Note, note
from audit.core.types import Images
from audit.models.batching import ExecutionLayout, set_memory_format
from audit.models.fixed_batch import with_fixed_batch
from audit.models.module_copy import copy_of


@dataclass(frozen=True)
class NetForm:
    """A net that stands for a user's module.

    Attributes:
        net: A frozen copy in eval mode.
        notes: What was done to it.
        input_type: The type of number that its images have.
    """

    net: nn.Module
    notes: tuple[Note, ...] = ()
    input_type: torch.dtype = torch.float32


def private_copy(module: nn.Module, device: torch.device) -> NetForm:
    """A copy whose weights are float32: half precision rounds away what attacks change, and few CPUs are fast at it.

    Args:
        module: The module, which stays as it is.
        device: Where the copy is put.

    Raises:
        ModelError: It cannot be copied.
    """
    form = _frozen(module, device)
    return _in_float32(form) if _types(form.net.parameters()) - {torch.float32} else form


def other_forms(first: NetForm, original: nn.Module, noise: Images, layout: ExecutionLayout) -> Iterator[NetForm]:
    """What to try where the preferred form does not run: another layout, its own types of number, its batch size.

    Args:
        first: The preferred form.
        original: The user's module.
        noise: Images as the net is given them, (4, C, H, W).
        layout: How images are handed to the net; set to channels first.
    """
    layout.channels_last = False
    set_memory_format(first.net, channels_last=False)
    yield first
    if (fixed := with_fixed_batch(first.net, noise)) is not None:
        yield replace(first, net=fixed, notes=(*first.notes, _fixed_batch_note(fixed.size)))
    tensors = (*original.parameters(), *original.buffers())
    if not _types(tensors) - {torch.float32}:
        return
    if not _types(original.parameters()) - {torch.float32}:
        yield _in_float32(_frozen(original, noise.device))
    own = _frozen(original, noise.device)
    own = replace(own, notes=(*own.notes, _own_types_note(_types(tensors))))
    yield own
    for kind in sorted(_types(tensors) - {torch.float32}, key=str):
        yield replace(own, input_type=kind)


def _frozen(module: nn.Module, device: torch.device) -> NetForm:
    """A copy without gradients, in eval mode. A user's `eval` or `to` need not return the module."""
    copied, shared = copy_of(module)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    copied.eval()
    copied.to(device)
    names = ", ".join(shared[:4]) + (", ..." if len(shared) > 4 else "")
    alike = note("model_shared", "The audit's copy shares with the module what cannot be copied: {names}.", names=names)
    return NetForm(copied, (alike,) if shared else ())


def _in_float32(form: NetForm) -> NetForm:
    types = _names(_types((*form.net.parameters(), *form.net.buffers())) - {torch.float32})
    form.net.float()
    said = note("model_float32", "The model holds {types} numbers: a copy of it in float32 is audited.", types=types)
    return replace(form, notes=(*form.notes, said))


def _fixed_batch_note(size: int) -> Note:
    return note(
        "model_fixed_batch", "The model takes batches of {size} only: smaller ones are filled up for it.", size=size
    )


def _own_types_note(types: set[torch.dtype]) -> Note:
    return note(
        "model_own_types",
        "The model computes in {types} and does not run in float32: it is audited as it is, and its rounding may hide "
        "small changes of an image from attacks.",
        types=_names(types),
    )


def _types(tensors: Iterator[Tensor] | tuple[Tensor, ...]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


def _names(types: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(kind).removeprefix("torch.") for kind in types))
