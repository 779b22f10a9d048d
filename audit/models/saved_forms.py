"""Forms in which a net's weights are saved under other names, or in parts, brought back to the plain ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from audit.core.note import Note, note

_WRAPPERS = (
    *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_fpw_module"),
    *("_checkpoint_wrapped_module", "_dp_wrapped_module"),
)
"""Parts that wrappers put into names: data parallel, compiled, Fabric, fully sharded, activation checkpoints."""
_OLD = re.compile(r"(?P<plain>.+)_(orig|g)")
_NEW = re.compile(r"(?P<layer>.*?)parametrizations\.(?P<part>[^.]+)\.original0?")


def plain_forms(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Note]]:
    """A state dict without what wrappers, pruning and reparametrisation made of its names, where a module lacks that.

    Args:
        state: The file's tensors by name.
        expected: The module's own tensors by name.

    Returns:
        The tensors, and what was done to them; no note where nothing was.
    """
    notes = []
    tensors, removed = _without_wrappers(state, expected)
    if removed:
        notes.append(
            note(
                "model_wrappers",
                "What wrappers put into the names of the file ({parts}) was removed.",
                parts=", ".join(removed),
            )
        )
    tensors, computed = computed_weights(tensors, expected)
    if computed:
        notes.append(
            note(
                "model_computed_weights",
                "{count} weights that the file holds in parts, as pruning and normalisation of weights do, were "
                "computed from them.",
                count=computed,
            )
        )
    named = _named_by_order(tensors, expected)
    if named:
        notes.append(
            note(
                "model_numbered_layers",
                "The file numbers the layers, as a sequence does: {count} were taken in the order of the "
                "architecture's, of which each has the same shapes.",
                count=len({name.rpartition(".")[0] for name in named.values()}),
            )
        )
    return {named.get(name, name): tensor for name, tensor in tensors.items()}, notes


def computed_weights(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], int]:
    """A state dict in which weights that are kept in parts are computed from them, as the net itself does in each call.

    Those of pruning (a weight and its mask), weight normalisation (length and direction) and spectral normalisation (a
    weight and two singular vectors), before and after torch 2.0.

    Args:
        state: Tensors by name.
        expected: The module's own tensors by name: what it has in parts stays so. None computes all.

    Returns:
        The tensors, and how many were computed.
    """
    tensors, count = dict(state), 0
    for name in state:
        parts = _parts_of_weight(name, state)
        if parts is None or (expected is not None and name in expected):
            continue
        plain, weight, others = parts
        tensors[plain] = weight
        count += 1
        for other in (name, *others):
            tensors.pop(other, None)
    return tensors, count


def _without_wrappers(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Without wrappers' parts that the module's names lack, unless two names would become one."""
    own = {part for name in expected for part in name.split(".")}
    theirs = {part for name in state for part in name.split(".")}
    removed = [word for word in _WRAPPERS if word in theirs and word not in own]
    renamed = {name: ".".join(part for part in name.split(".") if part not in removed) for name in state}
    if len(set(renamed.values())) < len(state):
        return dict(state), []
    return {renamed[name]: tensor for name, tensor in state.items()}, removed


def _parts_of_weight(name: str, state: Mapping[str, Tensor]) -> tuple[str, Tensor, tuple[str, ...]] | None:
    """Of the first part of a weight: the weight's plain name, its value, and the names of the other parts."""
    if new := _NEW.fullmatch(name):
        stem = f"{new['layer']}parametrizations.{new['part']}."
        plain, second, left, right = new["layer"] + new["part"], f"{stem}original1", f"{stem}0._u", f"{stem}0._v"
        mask = ""
    elif old := _OLD.fullmatch(name):
        plain = old["plain"]
        second, left, right, mask = f"{plain}_v", f"{plain}_u", f"{plain}_v", f"{plain}_mask"
    else:
        return None
    weight = state[name].float()
    if mask in state and state[mask].shape == weight.shape:
        return plain, weight * state[mask].float(), (mask,)
    if name.endswith(("_g", "original0")):
        return (plain, _of_length(state[second].float(), weight), (second,)) if second in state else None
    if left in state and right in state:
        return plain, weight / _largest_singular_value(weight, state[left], state[right]), (left, right)
    return None


def _of_length(direction: Tensor, length: Tensor) -> Tensor:
    """Weight normalisation (arXiv:1602.07868); the axes of length 1 are those that a norm runs over."""
    axes = [axis for axis, size in enumerate(length.shape) if size == 1] if length.ndim else []
    norm = torch.linalg.vector_norm(direction, dim=axes or None, keepdim=bool(axes))
    weight: Tensor = direction * (length / norm)
    return weight


def _largest_singular_value(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """As spectral normalisation (arXiv:1802.05957) estimates it; transposed convolutions have their
    outputs second."""
    first = weight if weight.shape[0] == len(left) else weight.transpose(0, 1)
    return torch.dot(left.float(), first.flatten(1) @ right.float())


def _named_by_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """The module's names by those of a file that numbers the layers, `nn.Sequential(*net.children())`; else empty.

    Each numbered layer must have the parts and shapes of the module's in its place; the module may have a last layer
    more, which trainers put elsewhere.
    """
    layers = list(_by_first_part(expected, "").items())
    for prefix in {"", *(f"{first}." for name in state if "." in name for first in [name.partition(".")[0]])}:
        numbered = {part: names for part, names in _by_first_part(state, prefix).items() if part.isdigit()}
        files = sorted(numbered.items(), key=lambda item: int(item[0]))
        if not len(layers) - 1 <= len(files) <= len(layers) or len(files) < 2:
            continue
        pairs = list(zip(files, layers, strict=False))
        if all(_alike(names, state, own, expected) for (_, names), (_, own) in pairs):
            return {names[rest]: own[rest] for (_, names), (_, own) in pairs for rest in names if rest in own}
    return {}


def _by_first_part(state: Mapping[str, Tensor], prefix: str) -> dict[str, dict[str, str]]:
    """By the first part after a prefix: what follows it, and the whole name."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in _starting_with(state, prefix):
        first, _, rest = name.removeprefix(prefix).partition(".")
        groups[first][rest] = name
    return groups


def _starting_with(names: Mapping[str, Tensor], prefix: str) -> Iterator[str]:
    return (name for name in names if name.startswith(prefix))


def _alike(
    names: Mapping[str, str], state: Mapping[str, Tensor], own: Mapping[str, str], expected: Mapping[str, Tensor]
) -> bool:
    """Whether two layers have the same parts of the same shapes, counters aside."""
    return all(
        rest in names and rest in own and state[names[rest]].shape == expected[own[rest]].shape
        for rest in {*names, *own}
        if not rest.endswith("num_batches_tracked")
    )
