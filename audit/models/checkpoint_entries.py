"""What trainers save around weights: the entry that holds the state dict, or the averaged one, is found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import Note, listed_with_more, note
from audit.models.loaded import CheckpointContent

_AVERAGED = re.compile(r"(.*[_.-])?(ema|swa|averaged|polyak|shadow)([_.-].*)?", re.IGNORECASE)
"""Entries that hold averaged weights (Polyak averaging), which trainers evaluate and publish."""
_NESTS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("net_state_dict", "model_weights", "classifier"),
)
"""Where trainers put the state dict: Lightning, torchvision's references, timm, hand-written loops."""
_TRAINING = re.compile(
    r".*(optim|sched|scaler|criterion|loss|metric|callback|loops|discriminator|rng).*", re.IGNORECASE
)
"""Entries that hold what a training goes on from, and no model."""


def unwrapped(content: Any, name: str) -> CheckpointContent:
    """The weights in the content of a file, perhaps nested, with notes on what was unwrapped.

    Where nothing tells several sets of weights apart there are the sets alone.

    Args:
        content: What the file holds.
        name: The file's name.

    Raises:
        ModelError: When there are no weights, or tensors that are not plain and dense.
    """
    sets = dict(_sets(content))
    if not sets:
        raise ModelError(_no_weights(content, name))
    entry = _chosen(sets)
    if entry is None:
        return CheckpointContent(sets=sets)
    notes = list(_unnamed_average(content, name))
    others = [other for other in sets if other != entry]
    if _AVERAGED.fullmatch(entry) and others:
        notes.insert(0, averaged_note(name, entry, others[0]))
    elif entry:
        notes.insert(0, _entry_note(name, entry))
    aside = (
        [] if isinstance(sets[entry], nn.Module) else [k for k, value in sets[entry].items() if _tensor(value) is None]
    )
    if aside:
        notes.append(aside_note(name, aside))
    return replace(_content(sets[entry], name), notes=tuple(notes), sets=sets)


def with_entry(content: CheckpointContent, entry: str, name: str) -> CheckpointContent:
    """The content with the weights that were asked for.

    Args:
        content: What a file holds.
        entry: The entry of the weights; where the file has none of that name it is left to the prefixes of its names;
            "" for what was taken without being asked.
        name: The file's name.

    Raises:
        ModelError: There is neither an entry nor a prefix of that name, or several entries and none was asked for.
    """
    if not entry and content.state is None and content.module is None:
        first, listed = next(iter(content.sets)), ", ".join(content.sets)
        raise ModelError(f"{name} holds several sets of weights ({listed}): say which with --weights-entry {first}.")
    if not entry:
        return content
    if entry in content.sets:
        chosen = _content(content.sets[entry], name)
        return replace(content, state=chosen.state, module=chosen.module, notes=(_entry_note(name, entry),))
    if content.state is not None and any(
        entry in key.split(".") or key.startswith(f"{entry}.") for key in content.state
    ):
        return content
    prefixes = sorted({key.split(".")[0] for key in content.state or () if "." in key})
    entries = [key for key in content.sets if key] or prefixes
    raise ModelError(
        f"{name} has no weights under {entry!r}; it has {', '.join(entries[:8]) or 'one set without a name'}."
    )


def _entry_note(name: str, entry: str) -> Note:
    return note("model_entry", "{name}: the weights were taken from its entry '{entry}'.", name=name, entry=entry)


def averaged_note(name: str, entry: str, other: str) -> Note:
    """Say that averaged weights were taken.

    Args:
        name: The file's name.
        entry: What holds them.
        other: What holds the raw ones.
    """
    return note(
        "model_averaged",
        "{name} holds raw and averaged weights: the averaged ones ({entry}) were taken; --weights-entry {other} takes "
        "the raw ones.",
        name=name,
        entry=entry,
        other=other or "raw",
    )


def aside_note(name: str, aside: list[str]) -> Note:
    """Say what of a file no prediction uses.

    Args:
        name: The file's name.
        aside: What was set aside.
    """
    return note(
        "model_aside",
        "{name}: what belongs to training and changes no prediction was set aside ({names}).",
        name=name,
        names=listed_with_more(aside, 4),
    )


def _sets(content: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Every set of weights in the content of a file, with the names of the entries that lead to it."""
    if isinstance(content, nn.Module):
        yield "", content
        return
    if isinstance(content, tuple | list):
        content = {str(position): item for position, item in enumerate(content) if not isinstance(item, Tensor)}
    if not isinstance(content, Mapping) or depth == 0:
        return
    inner = False
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping | nn.Module | tuple | list) and not _TRAINING.match(key):
            for rest, weights in _sets(value, depth - 1):
                inner = True
                yield f"{key}.{rest}" if rest else key, weights
    if not inner and any(isinstance(key, str) and _tensor(value) is not None for key, value in content.items()):
        yield "", content


def _chosen(sets: Mapping[str, Any]) -> str | None:
    """The entry of the averaged weights, else that of the best known name, else the only one; None where all differ."""
    averaged = [entry for entry in sets if _AVERAGED.fullmatch(entry)]
    if averaged:
        return averaged[0]
    for known in _NESTS:
        named = [entry for entry in sets if entry.split(".")[0] == known]
        if len(named) == 1:
            return named[0]
    return next(iter(sets)) if len(sets) == 1 else None


def _content(weights: Any, name: str) -> CheckpointContent:
    if isinstance(weights, nn.Module):
        return CheckpointContent(module=weights)
    tensors = {key: _tensor(value) for key, value in weights.items() if isinstance(key, str)}
    return CheckpointContent(state=_plain({key: value for key, value in tensors.items() if value is not None}, name))


def _tensor(value: Any) -> Tensor | None:
    """A tensor, or an array of numbers as one."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.ndim:
        return torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="))))
    return None


def _plain(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Dense tensors that hold their own numbers. Sparse ones are refused: their indices are not checked on load."""
    for key, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise ModelError(
                f"{name}: tensor {key} is sparse, quantised, complex or empty, where plain dense weights were "
                "expected. Save the state dict of the float model."
            )
    return {key: tensor.detach() for key, tensor in state.items()}


def _unnamed_average(content: Any, name: str) -> Iterator[Note]:
    """Averaged weights that are a list without names cannot be told apart."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Mapping) and isinstance(value.get("shadow_params"), tuple | list):
            yield note(
                "model_unnamed_average",
                "{name}: the averaged weights in its entry '{entry}' are a list without names and were left aside; the "
                "raw ones are audited. Save the averaged ones as a state dict to audit them.",
                name=name,
                entry=str(key),
            )


def _no_weights(content: Any, name: str) -> str:
    if isinstance(content, tuple | list) and content and all(isinstance(item, Tensor) for item in content):
        return (
            f"{name} holds a list of {len(content)} tensors without names, where a state dict (names to tensors) was "
            "expected. Save it with torch.save(model.state_dict(), ...)."
        )
    return (
        f"{name} holds {_describe(content)}, where a state dict (names to tensors) was expected, perhaps under one of "
        f"{', '.join(_NESTS[:7])}. Save it with torch.save(model.state_dict(), ...)."
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = [str(key) for key in list(content)[:5]]
        return f"a dictionary of {len(content)} entries ({', '.join(keys) or 'none'})"
    return f"an object of type {type(content).__name__}"
