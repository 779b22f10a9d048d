"""State dicts: unwrapped from what trainers save around them, and loaded into an architecture that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.models.load_state import load_state
from audit.models.loaded import CheckpointContent

_NESTS = ("state_dict", "model_state_dict", "model", "net", "module", "weights", "params")
"""Where trainers put the state dict: Lightning, torchvision's references, timm, hand-written loops."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What DataParallel, torch.compile and Lightning put before every key. Stripped only when the model asks for it."""


def unwrapped(content: Any, name: str) -> CheckpointContent:
    """The state dict in the content of a file, perhaps nested, with notes on what was unwrapped.

    Args:
        content: What the file holds.
        name: The file's name.

    Raises:
        ModelError: When there is no state dict, or its tensors are not plain and dense.
    """
    notes: list[Note] = []
    while isinstance(content, Mapping) and not _is_state(content):
        nest = next((key for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        notes.append(
            note("model_entry", "{name}: the weights were taken from its entry '{entry}'.", name=name, entry=nest)
        )
        content = content[nest]
    if isinstance(content, Mapping) and _is_state(content):
        return CheckpointContent(state=_plain(content, name), notes=tuple(notes))
    raise ModelError(
        f"{name} holds {_describe(content)}, where a state dict (names to tensors) was expected, perhaps under one of "
        f"{', '.join(_NESTS)}. Save it with torch.save(model.state_dict(), ...)."
    )


def load_matching(
    module: nn.Module, state: Mapping[str, Tensor], *, checkpoint: str, architecture: str
) -> tuple[Note, ...]:
    """Load a state dict into a module, every key or none.

    Args:
        module: The module.
        state: The state dict; prefixes that wrappers put before every key are removed.
        checkpoint: The file's name, for notes and errors.
        architecture: The architecture's name, for errors.

    Returns:
        Notes on prefixes removed and types widened.

    Raises:
        ModelError: When keys are missing, unknown, or of another shape or type; the first are named.
    """
    expected = module.state_dict()
    matched, notes = without_prefix(state, expected)
    problems = _mismatches(matched, expected)
    if problems:
        outputs = _other_outputs(matched, expected)
        remedy = (
            f"It has {outputs[0]} outputs and {outputs[1]} classes were expected: name all of its classes with "
            "--labels-map, or train a new last layer on it with audit train --pretrained."
            if outputs
            else "Give the architecture it was trained with by --architecture, and the same classes and image size."
        )
        raise ModelError(f"{checkpoint} does not fit the architecture {architecture}: {'; '.join(problems)}. {remedy}")
    load_state(module, matched)
    types = sorted({str(t.dtype) for k, t in matched.items() if t.dtype != expected[k].dtype})
    if types:
        widened = note(
            "model_types",
            "{name}: weights of type {types} are run as float32.",
            name=checkpoint,
            types=", ".join(types),
        )
        return (*notes, widened)
    return notes


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether a state dict fails to fit a module, prefixes aside.

    Args:
        state: The state dict.
        expected: The module's own state dict.
    """
    return bool(_mismatches(without_prefix(state, expected)[0], expected))


def without_prefix(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[Note, ...]]:
    """Remove the prefixes that wrappers put before every key, as far as that makes the keys the expected ones.

    Args:
        state: The state dict.
        expected: The module's own state dict.

    Returns:
        The state dict, and a note on what was removed.
    """
    current = dict(state)
    removed = ""
    while set(current) != set(expected):
        prefix = next((p for p in _PREFIXES if current and all(key.startswith(p) for key in current)), None)
        if prefix is None or all(key.startswith(prefix) for key in expected):
            break
        current = {key.removeprefix(prefix): tensor for key, tensor in current.items()}
        removed += prefix
    return current, (
        note("model_prefix", "The prefix '{prefix}' was removed from every key.", prefix=removed),
    ) if removed else ()


def _mismatches(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    # Old BatchNorm checkpoints lack the step counter, which changes no prediction.
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    shapes = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} expected)"
        for key in expected
        if key in state and state[key].shape != expected[key].shape and not _single(state[key], expected[key])
    ]
    kinds = [
        f"{key} ({state[key].dtype} in the file, {expected[key].dtype} expected)"
        for key in expected
        if key in state and state[key].is_floating_point() != expected[key].is_floating_point()
    ]
    problems = []
    for keys, text in (
        (missing, "missing"),
        (unknown, "unknown"),
        (shapes, "of another shape"),
        (kinds, "of another type"),
    ):
        if keys:
            more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
            problems.append(f"{text}: {', '.join(keys[:2])}{more}")
    return problems


def _other_outputs(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """(in the file, expected) where the last layer alone differs, and in nothing but its number of outputs."""
    if set(state) != set(expected):
        return None
    unlike = [key for key in expected if state[key].shape != expected[key].shape]
    pairs = {(*state[key].shape[:1], *expected[key].shape[:1]) for key in unlike}
    alike = all(state[key].shape[1:] == expected[key].shape[1:] for key in unlike)
    last = {key.rpartition(".")[0] for key in unlike} == {list(expected)[-1].rpartition(".")[0]}
    return next(iter(pairs)) if alike and last and len(pairs) == 1 else None


def _single(stored: Tensor, expected: Tensor) -> bool:
    """One number in a row where one without a shape is wanted, as older runs stored it: torch loads it so."""
    return expected.ndim == 0 and stored.shape == (1,)


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _plain(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Dense tensors that hold their own numbers. Sparse ones are refused: their indices are not checked on load."""
    for key, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise ModelError(
                f"{name}: tensor {key} is sparse, quantised, complex or empty, where plain dense weights were "
                "expected. Save the state dict of the float model."
            )
    return {key: tensor.detach() for key, tensor in state.items()}


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = [str(key) for key in list(content)[:5]]
        return f"a dictionary of {len(content)} entries ({', '.join(keys) or 'none'})"
    return f"an object of type {type(content).__name__}"
