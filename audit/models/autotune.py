"""The memory layout, batch size and form of search that suit a model on this machine: a short probe, and its memory.

The layout is worth 2 to 4 x on a CPU, and a GPU wants the opposite; folding batch norm saves up to a quarter, and a
lower precision up to half of a search. The choice moves floating-point rounding, so it is stored in the user's cache
folder (`AUDIT_CACHE_DIR` overrides it): the same machine gives the same bytes again. On a card replaying the steps of a
search from CUDA graphs is timed too.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import get_args

import torch
from filelock import FileLock, Timeout

from audit.core.errors import ModelError, SetupError
from audit.models.batching import ExecutionLayout, set_memory_format
from audit.models.cuda_graphs import can_record
from audit.models.noise_probe import noise_gradient, noise_images
from audit.models.precision import SearchPrecision
from audit.models.precision_probe import quickest_precision
from audit.models.replay_probe import most_replayed
from audit.models.search_form import folded_form
from audit.models.under_test import ModelUnderTest
from audit.storage.cache import cache_folder
from audit.storage.store import write_atomically

WORTHWHILE = 1.25
"""How many times faster than the default another layout must be: less is noise, and noise must not move bytes."""

FOLD_WORTHWHILE = 1.03
"""How many times faster the folded form must be. Less is asked than of a layout: it has fewer operations, so it is
never slower by more than noise, and both forms are timed in turn."""

_SMALL = 8
_handed_over: dict[str, ExecutionLayout] = {}
_PATIENCE = 60.0
"""Seconds to wait for another process that probes the same model; the probe takes a few."""
_FOLD_ROUNDS = 3
_BATCHES = {"cpu": (32, 512)}
_BATCHES_ELSEWHERE = (512, 1024)
_BATCHES_ON_A_CARD = (512, 1024, 2048, 4096, 8192, 16384, 32768)
_MEASURED = 64
"""Images of the pass whose memory is measured on a card."""
_SHARE_OF_FREE_MEMORY = 0.6
"""Of a card's free memory, what a batch may take by that measure: a search holds more beside it."""
_WARM_UPS = 2
"""Passes before the clock on an accelerator: the first loads kernels and plans, at up to a hundred times the price."""


def tune_execution(model: ModelUnderTest, *, seconds: float = 1.5) -> ExecutionLayout:
    """Set the model's layout: the stored one, else the fastest of those that can be tried in time.

    Probe passes are not counted. A cache that cannot be read or written is no error. Of processes that need the same
    layout at once one probes, so that all have the same.

    Args:
        model: The model; its `layout` and the memory format of its weights are changed.
        seconds: Time for the probe.

    Returns:
        The layout.
    """
    if getattr(model.net, "largest_batch", 0):  # the net itself says how it is asked
        return model.layout
    signature = _signature(model)
    layout = _handed_over.get(signature)
    if layout is None:
        path = cache_folder() / "layouts" / f"{signature}.json"
        layout = _read_cached(path) or _probed(model, path, seconds)
    _apply(model, layout)
    return layout


def layouts_of(model: ModelUnderTest) -> dict[str, ExecutionLayout]:
    """The layout that a model has here, for `hand_over_layouts` in another process.

    Args:
        model: The model; its layout is chosen where that was not done before.
    """
    layout = tune_execution(model)
    return {} if getattr(model.net, "largest_batch", 0) else {_signature(model): replace(layout)}


def hand_over_layouts(layouts: Mapping[str, ExecutionLayout]) -> None:
    """Use in this process the layouts of another, so that both compute the same bytes.

    Args:
        layouts: As `layouts_of` gave them in a process with the same torch, device and number of threads; those of
            another are never asked for.
    """
    _handed_over.update(layouts)


def _probed(model: ModelUnderTest, path: Path, seconds: float) -> ExecutionLayout:
    """The fastest layout, found while no other process looks for it, or by that other process."""
    with ExitStack() as held:
        with suppress(OSError, Timeout):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path.with_suffix(".lock"), timeout=_PATIENCE))
        layout = _read_cached(path)
        if layout is None:
            layout = _fastest(model, seconds)
            _write_cached(path, layout)
        return layout


def _fastest(model: ModelUnderTest, seconds: float) -> ExecutionLayout:
    meter = model.meter
    before = (meter.forwards, meter.backwards)
    deadline = time.monotonic() + seconds
    try:
        default = _affordable(model, seconds)
        layout = _compare(model, default, deadline) if time.monotonic() < deadline else default
        layout = replace(layout, folded=_folding_pays(model, layout, seconds))
        _apply(model, layout)
        layout = replace(layout, search_precision=quickest_precision(model, seconds))
        _apply(model, layout)
        return replace(layout, replayed=most_replayed(model, seconds)) if can_record(model.device) else layout
    finally:
        meter.forwards, meter.backwards = before


def _affordable(model: ModelUnderTest, seconds: float) -> ExecutionLayout:
    """The default layout, with a smaller batch where a full one would take longer than the whole probe."""
    default = ExecutionLayout.default(model.device, channels_last=model.layout.channels_last)
    small = ExecutionLayout(default.channels_last, _SMALL)
    for _ in range(0 if model.device.type == "cpu" else _WARM_UPS):
        _cost(model, small, time.monotonic())
    cost = _cost(model, small, time.monotonic())
    while cost < float("inf") and default.batch_size > _SMALL and default.batch_size * cost > seconds:
        default.batch_size //= 2
    return default


def _compare(model: ModelUnderTest, default: ExecutionLayout, deadline: float) -> ExecutionLayout:
    best, best_cost = default, _cost(model, default, deadline) / WORTHWHILE
    on_cpu = model.device.type == "cpu"
    for candidates in (_other_batches, _other_format) if on_cpu else (_other_format, _other_batches):
        for candidate in candidates(model, default if on_cpu else best):
            if time.monotonic() > deadline:
                return best
            cost = _cost(model, candidate, deadline)
            if cost < best_cost:
                best, best_cost = candidate, cost
    return best


def _other_batches(model: ModelUnderTest, layout: ExecutionLayout) -> Iterator[ExecutionLayout]:
    for size in _batches_on_a_card(model) if model.device.type == "cuda" else _sizes(model.device):
        yield ExecutionLayout(layout.channels_last, size)


def _other_format(model: ModelUnderTest, layout: ExecutionLayout) -> Iterator[ExecutionLayout]:
    if layout.channels_last:
        yield ExecutionLayout(False, layout.batch_size)


def _sizes(device: torch.device) -> tuple[int, ...]:
    return _BATCHES.get(device.type, _BATCHES_ELSEWHERE)


def _batches_on_a_card(model: ModelUnderTest) -> tuple[int, ...]:
    """The batches whose forward and backward pass fits the memory that is free, by that of a small one."""
    free, _ = torch.cuda.mem_get_info(model.device)
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    _cost(model, ExecutionLayout(model.layout.channels_last, _MEASURED), time.monotonic())
    taken = max(1, torch.cuda.max_memory_allocated(model.device) - before)
    return tuple(size for size in _BATCHES_ON_A_CARD if size * taken <= _SHARE_OF_FREE_MEMORY * free * _MEASURED)


def _cost(model: ModelUnderTest, layout: ExecutionLayout, deadline: float) -> float:
    """Seconds an example takes forward and back, best of three after a warm-up; infinite where it cannot be done."""
    _apply(model, layout)
    noise = noise_images(model, layout.batch_size)
    best = float("inf")
    for attempt in range(4):
        started = time.monotonic()
        try:
            noise_gradient(model, noise).gradient.sum().item()
        except (SetupError, ModelError, RuntimeError):
            return float("inf")
        if model.layout.batch_size != layout.batch_size:
            return float("inf")
        if attempt or time.monotonic() > deadline:
            best = min(best, (time.monotonic() - started) / layout.batch_size)
        if time.monotonic() > deadline:
            break
    return best


def _folding_pays(model: ModelUnderTest, layout: ExecutionLayout, seconds: float) -> bool:
    """Whether the folded form is faster, the two timed in turn; each is asked once at least, whatever that takes."""
    _apply(model, layout)
    if (form := folded_form(model)) is None:
        return False
    started = time.monotonic()
    some = replace(layout, batch_size=min(_SMALL, layout.batch_size))
    plain = folded = float("inf")
    for _ in range(_FOLD_ROUNDS):
        deadline = started + seconds
        plain, folded = min(plain, _cost(model, some, deadline)), min(folded, _cost(form, some, deadline))
        if time.monotonic() > deadline:
            break
    return folded * FOLD_WORTHWHILE < plain


def _apply(model: ModelUnderTest, layout: ExecutionLayout) -> None:
    for field, value in asdict(layout).items():  # the model's own object: its folded form shares it
        setattr(model.layout, field, value)
    set_memory_format(model.net, channels_last=layout.channels_last)


def _signature(model: ModelUnderTest) -> str:
    """The machine, torch, the device and the structure; not the weights, which change no cost."""
    shapes = [(name, tuple(getattr(tensor, "shape", ()))) for name, tensor in model.net.state_dict().items()]
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.processor()
    parts = (platform.machine(), device, os.cpu_count(), torch.get_num_threads(), torch.__version__)
    text = repr((parts, model.device.type, str(model.net), shapes, model.input_shape, model.layout.channels_last))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_cached(path: Path) -> ExecutionLayout | None:
    try:
        stored = json.loads(path.read_text())
        # Versions before them wrote neither of the last two.
        further = stored.get("replayed", 0), stored.get("search_precision", "float32")
        layout = ExecutionLayout(stored["channels_last"], stored["batch_size"], stored["folded"], *further)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    *kinds, _ = map(type, astuple(layout))
    known = kinds == [bool, int, bool, int] and layout.search_precision in get_args(SearchPrecision)
    return layout if known else None


def _write_cached(path: Path, layout: ExecutionLayout) -> None:
    try:
        write_atomically(path, json.dumps(asdict(layout)))
    except (SetupError, OSError):
        return
