"""State dicts loaded into an architecture that they fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.models.checkpoint_entries import aside_note, averaged_note
from audit.models.key_matching import KeyMatching, match_keys
from audit.models.load_state import load_state
from audit.models.saved_forms import plain_forms

_ADAPTER = re.compile(r"(^|[._])(lora|loha|lokr|hada|dora)_", re.IGNORECASE)
"""Names of low-rank adapters: peft, loralib, LyCORIS."""


@dataclass(frozen=True)
class LoadedState:
    """What loading a state dict gave.

    Attributes:
        notes: Sentences on prefixes, names and types that were changed, and on what was set aside.
        normalisation: The mean and the standard deviation of images in [0, 1] that the file keeps beside the net's
            weights, one number or one a channel; empty where it keeps none.
    """

    notes: tuple[Note, ...]
    normalisation: tuple[tuple[float, ...], ...] = ()


def load_matching(
    module: nn.Module, state: Mapping[str, Tensor], *, checkpoint: str, architecture: str, entry: str = ""
) -> LoadedState:
    """Load a state dict into a module, all of the module's weights or none.

    Args:
        module: The module.
        state: The state dict; see `match_keys` for what is done to its names.
        checkpoint: The file's name, for notes and errors.
        architecture: The architecture's name, for errors.
        entry: The prefix of the set of weights to take; "" takes an averaged set where there is one.

    Raises:
        ModelError: When keys are missing, unknown, or of another shape or type; the first are named.
    """
    matching = match_module(state, module, entry)
    expected, known = matching.expected, matching.known
    problems = _problems(matching)
    if problems:
        raise ModelError(
            f"{checkpoint} does not fit the architecture {architecture}: {'; '.join(problems)}. {_remedy(matching)}"
        )
    load_state(module, {**expected, **known})
    return LoadedState(matching_notes(matching, checkpoint), _normalisation(matching))


def match_module(state: Mapping[str, Tensor], module: nn.Module, entry: str = "") -> KeyMatching:
    """A state dict in the names of a module; timm's own step from older names is taken where it has one.

    Args:
        state: The file's tensors by name.
        module: The module.
        entry: The prefix of the set of weights to take; "" takes an averaged set where there is one.
    """
    expected = module.state_dict()
    matching = match_keys(state, expected, entry)
    if _problems(matching):
        plain, forms = plain_forms(state, expected)
        other = match_keys(plain, expected, entry) if forms else matching
        if _fitting(other) > _fitting(matching):
            state, matching = plain, replace(other, forms=tuple(forms))
    converter = getattr(sys.modules.get(type(module).__module__), "checkpoint_filter_fn", None)
    if not _problems(matching) or converter is None:
        return matching
    try:
        bare = {name.removeprefix(matching.removed): tensor for name, tensor in state.items()}
        converted = match_keys(converter(bare, module), expected)
    except Exception:  # a library's step for its own files raises whatever it stumbles on in others
        return matching
    if _fitting(converted) <= _fitting(matching):
        return matching
    renamed = len(set(converted.tensors) - set(bare))
    return replace(converted, removed=matching.removed, renamed=renamed, forms=matching.forms)


def fit_of(state: Mapping[str, Tensor], module: nn.Module, entry: str = "") -> int:
    """How well a state dict fits a module.

    Args:
        state: The state dict.
        module: The module.
        entry: The prefix of the set of weights to take; "" takes an averaged set where there is one.

    Returns:
        0 where it does not, 1 where it does under other names than the module's, 2 where the names agree.
    """
    matching = match_module(state, module, entry)
    if _problems(matching):
        return 0
    return 1 if matching.head or matching.renamed or matching.forms else 2


def matching_notes(matching: KeyMatching, checkpoint: str) -> tuple[Note, ...]:
    """What was done to the names of a state dict.

    Args:
        matching: The state dict in a module's names.
        checkpoint: The file's name.
    """
    return tuple(_notes(matching, checkpoint))


def _notes(matching: KeyMatching, checkpoint: str) -> Iterator[Note]:
    yield from matching.forms
    if matching.removed:
        yield note("model_prefix", "The prefix '{prefix}' was removed from every key.", prefix=matching.removed)
    if matching.added:
        yield note("model_prefix_added", "The prefix '{prefix}' was put before every key.", prefix=matching.added)
    if matching.renamed:
        yield note(
            "model_renamed",
            "{name}: {count} names of an older version were brought to those of today.",
            name=checkpoint,
            count=matching.renamed,
        )
    if matching.averaged and matching.removed.rstrip(".") != matching.averaged:
        yield averaged_note(checkpoint, matching.averaged, matching.removed.rstrip("."))
    if matching.head:
        yield note(
            "model_head",
            "{name}: its layer '{head}', which the architecture has under another name, was taken for the one missing.",
            name=checkpoint,
            head=matching.head,
        )
    if matching.foreign:
        yield aside_note(checkpoint, list(matching.foreign))
    types = sorted({str(t.dtype) for k, t in matching.known.items() if t.dtype != matching.expected[k].dtype})
    if types:
        yield note(
            "model_types",
            "{name}: weights of type {types} are run as float32.",
            name=checkpoint,
            types=", ".join(types),
        )


def _normalisation(matching: KeyMatching) -> tuple[tuple[float, ...], ...]:
    """In units of images in [0, 1]; those of pixels from 0 to 255 are divided."""
    if not matching.normaliser:
        return ()
    mean, std = (values.double().flatten() for values in matching.normaliser)
    scale = 255.0 if max(float(mean.abs().max()), float(std.max())) > 2 else 1.0
    return tuple((mean / scale).tolist()), tuple((std / scale).tolist())


def _problems(matching: KeyMatching) -> list[str]:
    state, expected = matching.known, matching.expected
    shapes = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} expected)"
        for key in state
        if state[key].shape != expected[key].shape and not _single(state[key], expected[key])
    ]
    kinds = [
        f"{key} ({state[key].dtype} in the file, {expected[key].dtype} expected)"
        for key in state
        if state[key].is_floating_point() != expected[key].is_floating_point() and expected[key].ndim
    ]
    problems = []
    for keys, text in (
        (matching.missing, "missing"),
        (matching.unknown, "unknown"),
        (shapes, "of another shape"),
        (kinds, "of another type"),
    ):
        if keys:
            more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
            problems.append(f"{text}: {', '.join(keys[:2])}{more}")
    return problems


def _remedy(matching: KeyMatching) -> str:
    """What to do about a file that does not fit, from what it lacks and has over."""
    adapters = [name for name in matching.unknown if _ADAPTER.search(name)]
    last = list(matching.expected)[-1].rpartition(".")[0]
    headless = {name.rpartition(".")[0] for name in matching.missing} == {last}
    if outputs := _other_outputs(matching):
        return (
            f"It has {outputs[0]} outputs and {outputs[1]} classes were expected: name all of its classes with "
            "--labels-map, or train a new last layer on it with audit train --pretrained."
        )
    if adapters:
        return (
            f"It holds low-rank adapters ({adapters[0]}), whose scale stands elsewhere: merge them into the weights "
            "(merge_and_unload() in peft) and save those."
        )
    if headless and not matching.unknown:
        return (
            f"It has every layer but the last one, {last}: it is a backbone. Train a last layer on it with audit train "
            "--pretrained, or give the file that holds it too."
        )
    if headless:
        return (
            f"Its last layer is another than the architecture's {last}: give the module that has it as "
            "--architecture FILE.py:FUNCTION."
        )
    return "Give the architecture it was trained with by --architecture, and the same classes and image size."


def _other_outputs(matching: KeyMatching) -> tuple[int, int] | None:
    """(in the file, expected) where the last layer alone differs, and in nothing but its number of outputs."""
    state, expected = matching.known, matching.expected
    if matching.missing or matching.unknown:
        return None
    unlike = [key for key in state if state[key].shape != expected[key].shape]
    pairs = {(*state[key].shape[:1], *expected[key].shape[:1]) for key in unlike}
    alike = all(state[key].shape[1:] == expected[key].shape[1:] for key in unlike)
    last = {key.rpartition(".")[0] for key in unlike} == {list(expected)[-1].rpartition(".")[0]}
    return next(iter(pairs)) if alike and last and len(pairs) == 1 else None


def _fitting(matching: KeyMatching) -> int:
    """How many of the module's tensors the file has in their shape."""
    return sum(value.shape == matching.expected[name].shape for name, value in matching.known.items())


def _single(stored: Tensor, expected: Tensor) -> bool:
    """One number in a row where one without a shape is wanted, as older runs stored it: torch loads it so."""
    return expected.ndim == 0 and stored.shape == (1,)
