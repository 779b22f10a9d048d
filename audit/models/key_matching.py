"""Brings the names of a state dict to those of a module: one step for audit, detection and pretrained weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from audit.core.note import Note
from audit.models.saved_forms import computed_weights

_COUNTERS = ("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask", "position_ids")
"""Last parts of names that a file may lack: they change no prediction, or the module computes them when it is made."""
_UNUSED_HEADS = ("AuxLogits", "aux1", "aux2", "aux_classifier", "aux_head", "aux_heads", "aux_logits", "auxiliary_head")
"""Heads that only training runs: Inception, GoogLeNet and what follows them."""
_FOREIGN = re.compile(
    r"(.*_)?(loss|losses|criterion|criteria|metrics?|accuracy|acc|auroc|f1|confmat|teacher|ema|swa|momentum_encoder|"
    r"encoder_k|queue|queue_ptr|projector|projection_head|proj_head|prototypes|optimizer|scheduler)(_.*|\d+)?",
    re.IGNORECASE,
)
"""Words that name, in the first two parts of a name, what trainers keep in a state dict beside the net."""
_PROFILED = ("total_ops", "total_params", "n_averaged", "num_updates", "decay", "initted", "_extra_state")
"""Last parts of names that profilers and averaging leave behind."""
_AVERAGED = re.compile(r"(.+_)?(ema|swa|averaged?|avg)(_(model|module|net|network|weights|params))?", re.IGNORECASE)
"""Parts of prefixes that name a second, averaged set of weights (Polyak averaging) inside one state dict."""
_ONLINE = ("online_model", "raw_model", "student")
"""Prefixes of the set that is not averaged, beside an averaged one."""
_RENAMED: tuple[tuple[str, str], ...] = (
    (r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2"),  # DenseNet before torchvision 0.3
    (r"(\.mlp)\.linear_1\.", r"\1.0."),  # vision transformers before torchvision 0.13
    (r"(\.mlp)\.linear_2\.", r"\1.3."),
    (r"\.gamma$", ".weight"),  # layer norms converted from TensorFlow
    (r"\.beta$", ".bias"),
    (r"\bweight_g$", "parametrizations.weight.original0"),  # weight norm before torch 2.0, and back
    (r"\bweight_v$", "parametrizations.weight.original1"),
    (r"\bparametrizations\.weight\.original0$", "weight_g"),
    (r"\bparametrizations\.weight\.original1$", "weight_v"),
    (r"\bweight_orig$", "parametrizations.weight.original"),  # spectral norm likewise
    (r"\bweight_u$", "parametrizations.weight.0._u"),
    (r"\bweight_v$", "parametrizations.weight.0._v"),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),  # timm before 0.9
    (r"^(norm)\.(weight|bias)$", r"fc_norm.\2"),
)
_MOST_CHANNELS = 4
_DEPTH = 4
"""How many parts a wrapper's prefix has at most."""


@dataclass(frozen=True)
class KeyMatching:
    """A state dict in a module's names.

    Attributes:
        tensors: The file's tensors by the module's names; those that the module lacks under the rest of their own.
        expected: The module's own tensors by name.
        removed: The prefix that was removed.
        added: The prefix that was put before.
        renamed: How many names were of an older version.
        foreign: Names of what was set aside: it belongs to training, and no prediction uses it.
        averaged: The prefix of the averaged weights that were taken; "" where there is one set.
        normaliser: The mean and the standard deviation that the file keeps as buffers and the module lacks; else empty.
        head: The layer of the file that was taken, by its shapes, for the only one that the module misses; else "".
        forms: Notes on what wrappers, pruning and the like had made of names and weights, which was undone.
    """

    tensors: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    removed: str = ""
    added: str = ""
    renamed: int = 0
    foreign: tuple[str, ...] = ()
    averaged: str = ""
    normaliser: tuple[Tensor, ...] = ()
    head: str = ""
    forms: tuple[Note, ...] = ()

    @cached_property
    def missing(self) -> list[str]:
        """Names that the module needs and the file lacks."""
        return [name for name in self.expected if name not in self.tensors and not _optional(name)]

    @cached_property
    def unknown(self) -> list[str]:
        """Names in the file that the module lacks and that are not known to be of no use."""
        return [name for name in self.tensors if name not in self.expected]

    @property
    def known(self) -> dict[str, Tensor]:
        """The file's tensors that the module has by name."""
        return {name: self.tensors[name] for name in self.expected if name in self.tensors}


def match_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], entry: str = "") -> KeyMatching:
    """Bring a state dict to a module's names.

    The prefix of most names is removed or put before, older names become today's, and what belongs to training is set
    aside: losses, metrics, counters, heads that only training runs, a second set of weights. Of a raw and an averaged
    set the averaged one is taken, with the raw one's buffers where it has none.

    Args:
        state: The file's tensors by name.
        expected: The module's own state dict.
        entry: The prefix of the set of weights to take; "" takes an averaged set where there is one.
    """
    if set(state) == set(expected):
        return KeyMatching(dict(state), expected)
    state = _with_dots(state, expected)
    (removed, added), averaged = _prefixes(state, expected, entry)
    tensors = {added + name.removeprefix(removed): value for name, value in state.items() if name.startswith(removed)}
    second = {
        added + name.removeprefix(averaged): state[name] for name in state if averaged and name.startswith(averaged)
    }
    tensors, renamed = _renamed({**tensors, **second}, expected)
    outside = {name: value for name, value in state.items() if not name.startswith((removed, averaged or removed))}
    pool = {**outside, **{name: value for name, value in tensors.items() if name not in expected}}
    head = _other_head(expected, tensors, pool)
    outside, tensors = ({n: v for n, v in part.items() if n not in head.values()} for part in (outside, tensors))
    tensors |= {name: pool[other] for name, other in head.items()}
    unused = {name: value for name, value in tensors.items() if name not in expected}
    normaliser = _normaliser({**outside, **unused})
    foreign = [name for name, value in unused.items() if name not in normaliser and _is_foreign(name, value)]
    kept = {name: value for name, value in tensors.items() if name not in foreign and name not in normaliser}
    aside = (*(name for name in outside if name not in normaliser), *foreign)
    values = tuple(normaliser.values())
    outer = next((name.rpartition(".")[0] for name in head.values()), "")
    return KeyMatching(kept, expected, removed, added, renamed, aside, averaged.rstrip("."), values, outer)


def parts_of(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A state dict, what is left of it without what belongs to training, and each large part under one prefix.

    Args:
        state: The file's tensors by name.
    """
    yield state
    whole, computed_count = computed_weights(state)
    if computed_count:
        yield whole
    own = {name: value for name, value in state.items() if not _is_foreign(name, value)}
    if len(own) < len(state):
        yield own
    heads = Counter(prefix for name in state for prefix in _beginnings(name)[:2])
    for prefix, count in heads.items():
        if len(state) > count > len(state) // 4:
            part = {name: value for name, value in state.items() if name.startswith(prefix)}
            yield part
            yield {name: value for name, value in part.items() if not _is_foreign(name.removeprefix(prefix), value)}


def computed(name: str) -> bool:
    """Whether a tensor of that name is a counter or is computed when the module is made: a file may lack it.

    Args:
        name: A name in a state dict.
    """
    return name.rpartition(".")[2] in _COUNTERS


def _optional(name: str) -> bool:
    return computed(name) or any(part in _UNUSED_HEADS for part in name.split("."))


def _average_in(prefix: str) -> str:
    """The part of a prefix that names averaged weights."""
    return next((part for part in prefix.split(".") if _is_averaged(part)), "")


def _is_averaged(part: str) -> bool:
    return bool(_AVERAGED.fullmatch(part))


def _with_dots(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Averaged weights whose names were saved without their dots, as buffers must be, with them again."""
    dotted = {name.replace(".", ""): name for name in expected}
    renamed = {
        name: f"{first}.{dotted[rest]}"
        for name in state
        for first, _, rest in [name.partition(".")]
        if _is_averaged(first) and rest in dotted
    }
    return {renamed.get(name, name): value for name, value in state.items()}


def _prefixes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], entry: str) -> tuple[tuple[str, str], str]:
    """What to remove from the file's names and what to put before them, so that most of the module's are met; and the
    prefix of an averaged set that has all of the module's weights that the first has."""
    own = {name for name in expected if not _optional(name)} or set(expected)
    counts: Counter[tuple[str, str]] = Counter()
    weights: Counter[tuple[str, str]] = Counter()
    for added in {"", *_shared(own)}:
        short = {name.removeprefix(added) for name in own if name.startswith(added)}
        for name in state:
            for removed in ("", *_beginnings(name)):
                if name.removeprefix(removed) in short and (not entry or _is_entry(removed, entry)):
                    counts[removed, added] += 1
                    weights[removed, added] += not name.rpartition(".")[2].startswith("running_")
    if not counts:
        return ("", ""), ""
    raw = {pair: count for pair, count in counts.items() if not _average_in(pair[0])} or counts
    best = min(raw, key=lambda pair: (-raw[pair], len(pair[0]) + len(pair[1]), pair))
    others = [pair for pair in counts if pair not in raw and pair[1] == best[1] and weights[pair] >= weights[best]]
    averaged = min(others, key=lambda pair: (len(pair[0]), pair))[0] if others else ""
    return best, averaged or (best[0] if _average_in(best[0]) else "")


def _is_entry(prefix: str, entry: str) -> bool:
    return entry == prefix.strip(".") or entry in prefix.split(".")


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) + "." for depth in range(1, min(_DEPTH, len(parts) - 1) + 1)]


def _shared(names: Iterable[str]) -> set[str]:
    """Prefixes that all names begin with."""
    listed = list(names)
    return {prefix for prefix in _beginnings(listed[0]) if all(name.startswith(prefix) for name in listed)}


def _renamed(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """With older names as the module has them now, and how many there were."""
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        renamed[name if name in expected else _newer(name, value, tensors, expected)] = value
    return renamed, len(set(renamed) - set(tensors))


def _newer(name: str, value: Tensor, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    for pattern, replacement in _RENAMED:
        newer = re.sub(pattern, replacement, name)
        if newer != name and newer in expected and newer not in tensors and expected[newer].shape == value.shape:
            return newer
    return name


def _is_foreign(name: str, value: Tensor) -> bool:
    """Whether no prediction uses a tensor that the module lacks."""
    parts = name.split(".")
    if parts[-1] in (*_COUNTERS, *_PROFILED) or any(part in _UNUSED_HEADS for part in parts):
        return True
    if value.numel() == 1 and not value.is_floating_point():
        return True
    return any(part in _ONLINE or _is_averaged(part) or _FOREIGN.fullmatch(part) for part in parts[:2])


_STANDARD_DEVIATIONS = {"mean": "std", "mu": "sigma"}


def _normaliser(unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A mean and a standard deviation of channels side by side among unused tensors; empty where there is none."""
    for name, mean in unused.items():
        for word, other in _STANDARD_DEVIATIONS.items():
            std = unused.get(name.removesuffix(word) + other) if name.endswith(word) else None
            if std is not None and mean.numel() == std.numel() <= _MOST_CHANNELS and bool((std > 0).all()):
                return {name: mean, name.removesuffix(word) + other: std}
    return {}


def _parts_of_layer(tensors: Mapping[str, Tensor], layer: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.rpartition(".")[0] == layer:
            yield name.rpartition(".")[2], tensor


def _other_head(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], unused: Mapping[str, Tensor]
) -> dict[str, str]:
    """The one layer that is missing, found by its shapes among what is unused: the head that a trainer puts on a net.

    By the module's name, its name in the file; empty where there is no such layer, or several.
    """
    missing = [name for name in expected if name not in tensors and not _optional(name)]
    layers = {name.rpartition(".")[0] for name in missing}
    if len(layers) != 1 or len(missing) == len(expected):
        return {}
    wanted = {name.rpartition(".")[2]: expected[name].shape for name in missing}
    heads = {
        layer
        for layer in {name.rpartition(".")[0] for name in unused if not _is_foreign(name, unused[name])}
        if {part: tensor.shape for part, tensor in _parts_of_layer(unused, layer)} == wanted
    }
    if len(heads) != 1:
        return {}
    inner, outer = next(iter(layers)), next(iter(heads))
    return {f"{inner}.{part}".lstrip("."): f"{outer}.{part}".lstrip(".") for part in wanted}
