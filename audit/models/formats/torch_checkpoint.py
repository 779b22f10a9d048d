"""torch.save files (.pt, .pth, .ckpt, .bin): data with `weights_only=True`; anything else is code and needs trust.

There is no fallback: a file that torch refuses as data runs only when the user vouches for that very file
(CVE-2025-32434 and CVE-2026-24747 are why torch 2.10 or newer is required).
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit.config import TrustConfig
from audit.core.errors import ModelError, UntrustedError
from audit.core.note import Note, note
from audit.core.registry import model_format
from audit.models.checkpoint_entries import unwrapped
from audit.models.files import check_trusted, read_whole
from audit.models.formats.inert_values import settled
from audit.models.formats.pickle_inspection import executable_reason, first_line, is_whole, members_of, stand_ins
from audit.models.formats.safetensors_file import is_safetensors, read_safetensors
from audit.models.loaded import CheckpointContent, TrustedFile

_ALONE = " Or save the state dict alone, which needs no trust: torch.save(model.state_dict(), ...)."


@model_format(suffixes=(".pt", ".pth", ".ckpt", ".bin", ".tar"))
def torch_save(path: Path, trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The state dict in a torch.save file; a pickled module or TorchScript needs trust. Safetensors load.

    Raises UntrustedError for files that need code, listing the globals they ask for, and ModelError for damaged ones.

    Args:
        path: The file.
        trust: The files whose code may run.
    """
    body = read_whole(path)
    if is_safetensors(body):
        return read_safetensors(body, path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = executable_reason(body, path.name)
        if not reason:
            return unwrapped(_as_data(body, path.name), path.name)
    sha256 = check_trusted(path, body, trust, reason=reason, otherwise=_ALONE)
    trusted = (TrustedFile(path.name, sha256),)
    content = _as_code(body, path.name)
    run = _was_run(path.name, reason, sha256)
    if isinstance(content, nn.Module):
        return CheckpointContent(module=content, notes=(run,), trusted=trusted)
    inner = unwrapped(content, path.name)
    return replace(inner, notes=(run, *inner.notes), trusted=trusted)


@model_format(suffixes=(".pt2",))
def torch_export(path: Path, trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The module of a torch.export archive, whose loader unpickles: code, whatever it holds.

    Args:
        path: The file. Raises UntrustedError when it is not trusted.
        trust: The files whose code may run.

    Raises:
        ModelError: When it is trusted and does not load.
    """
    body = read_whole(path)
    reason = note("code_export", "is a torch.export archive, whose loader runs what it holds")
    sha256 = check_trusted(path, body, trust, reason=reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A copy, because the exported module itself refuses to be told .eval(), which it is in already.
            module = copy.deepcopy(torch.export.load(io.BytesIO(body)).module())
    except Exception as fault:
        raise ModelError(f"{path.name} is trusted but does not load ({first_line(fault)}); export it again.") from fault
    run = _was_run(path.name, reason, sha256)
    return CheckpointContent(module=module, notes=(run,), trusted=(TrustedFile(path.name, sha256),))


def _as_data(body: bytes, name: str) -> Any:
    try:
        with stand_ins():
            return settled(torch.load(io.BytesIO(body), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as fault:
        if is_whole(body):
            raise UntrustedError(
                f"{name} is a pickle that torch refuses to read as data ({first_line(fault)}); it is not opened. Save "
                "the state dict with torch.save(model.state_dict(), ...) or as safetensors."
            ) from fault
        raise ModelError(f"{name} is cut short or damaged; export or download it again.") from fault
    except Exception as fault:  # a reader of hostile bytes raises whatever it stumbles on
        raise ModelError(
            f"{name} is cut short or damaged ({first_line(fault)}); export or download it again."
        ) from fault


def _as_code(body: bytes, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if any(member.endswith("constants.pkl") for member in members_of(body, name)):
                script = torch.jit.load(io.BytesIO(body), map_location="cpu")  # type: ignore[no-untyped-call]
                for parameter in script.parameters():
                    parameter.requires_grad_(False)  # else the copy of a script has weights that are no leaves
                return script
            return torch.load(io.BytesIO(body), map_location="cpu", weights_only=False)
    except Exception as fault:
        raise ModelError(
            f"{name} is trusted but does not load ({type(fault).__name__}: {first_line(fault)}). The code it was saved "
            "with must be importable; a state dict has no such need."
        ) from fault


def _was_run(name: str, reason: Note, sha256: str) -> Note:
    return note(
        "model_code",
        "{name} {reason}; it was run because it is trusted (SHA-256 {sha256}...).",
        name=name,
        reason=reason,
        sha256=sha256[:12],
    )
