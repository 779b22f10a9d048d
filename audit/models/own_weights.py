"""Modules that FILE.py:FUNCTION returns with weights of their own: they are the model, and not trained over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from audit.config import ModelConfig
from audit.core.note import Note, note
from audit.core.seeding import derive_seed
from audit.models.files import basename, is_code
from audit.models.formats.user_code import build_from_code
from audit.models.loaded import CheckpointContent, InputShape
from audit.models.state_hash import hash_state


def own_module(config: ModelConfig, *, classes: int, input_shape: InputShape, seed: int) -> CheckpointContent:
    """The module that the function returns, as a model that exists.

    Args:
        config: The [model] table, whose architecture is FILE.py:FUNCTION.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        seed: Root of what the function draws.
    """
    module, file = build_from_code(
        config.architecture, config.trust, classes=classes, input_shape=input_shape, seed=seed
    )
    audited = note(
        "model_own_weights",
        "{name} returns a module with weights of its own: they are audited. --own-weights no trains over them.",
        name=basename(config.architecture),
    )
    return CheckpointContent(module=module, notes=(audited,), trusted=(file,), companions=(_hash_of(module),))


def _hash_of(module: nn.Module) -> str:
    """SHA-256 of the weights, which the function may read from a file that has no other part in the identity."""
    digest = hashlib.sha256()
    hash_state(digest, module)
    return digest.hexdigest()


def with_own_weights(
    config: ModelConfig, *, classes: int, input_shape: InputShape, seed: int
) -> tuple[ModelConfig, tuple[Note, ...]]:
    """The [model] table, saying whether the module that a function returns is the model.

    It is where two calls under different seeds return the same weights. A seed that the function sets itself does not
    count: with it new weights would look like trained ones.

    Args:
        config: The [model] table.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        seed: Root of what the function draws.

    Returns:
        The table, and a note where training starts from weights of the function's own.
    """
    if config.weights is not None or config.pretrained is not None or config.own_weights:
        return config, ()
    if not is_code(config.architecture):
        return config, ()
    one, other = (
        _weights(config, classes, input_shape, derive_seed("own weights", seed, number)) for number in range(2)
    )
    alike = [name for name in one if name in other and torch.equal(one[name], other[name])]
    if config.own_weights is None and len(alike) == len(one) == len(other):
        return config.model_copy(update={"own_weights": True}), ()
    drawn = any(one[name].ndim > 1 and bool((one[name] != one[name].flatten()[0]).any()) for name in alike)
    return config, (_starts_from_own(config, len(alike), len(one)),) if drawn else ()


def _starts_from_own(config: ModelConfig, alike: int, total: int) -> Note:
    return note(
        "model_starts_from_own_weights",
        "{name} returns a module with weights of its own in {alike} of {total} tensors: training starts from them.",
        name=basename(config.architecture),
        alike=alike,
        total=total,
    )


def _weights(config: ModelConfig, classes: int, input_shape: InputShape, seed: int) -> dict[str, Tensor]:
    """The parameters that the function returns when its file is run anew and every seed is another."""
    with _other_seeds(seed):
        module, _ = build_from_code(
            config.architecture, config.trust, classes=classes, input_shape=input_shape, seed=seed, anew=True
        )
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


_SET_SEED = torch.manual_seed
_OTHER_SEED: ContextVar[int | None] = ContextVar("other seed", default=None)


def _set_mixed_seed(seed: int) -> torch.Generator:
    """`torch.manual_seed`, which code may keep under a name of its own: as ever outside `_other_seeds`."""
    other = _OTHER_SEED.get()
    return _SET_SEED(seed) if other is None else _SET_SEED(derive_seed("other seed", other, int(seed)))


@contextmanager
def _other_seeds(seed: int) -> Iterator[None]:
    """Inside the block a seed that code sets for torch is mixed with another."""
    token = _OTHER_SEED.set(seed)
    torch.manual_seed = torch.random.manual_seed = _set_mixed_seed
    try:
        yield
    finally:
        torch.manual_seed = torch.random.manual_seed = _SET_SEED
        _OTHER_SEED.reset(token)
