"""What a torch.save file is, from its bytes: nothing in it runs while it is inspected."""

from __future__ import annotations

import io
import pickletools
import zipfile
from contextlib import AbstractContextManager

import torch

from audit.core.errors import ModelError, UntrustedError
from audit.core.note import NO_NOTE, Note, listed_with_more, note
from audit.models.formats.inert_values import STAND_INS

_TAR_PICKLE = b"sys_info"
"""A member of torch's own old tar files."""
_INFLATION = 8
"""torch.save stores without compression; a zip that unpacks to more than this times its size is a bomb."""


def executable_reason(body: bytes, name: str) -> Note:
    """In what sense a file is code, for a sentence that begins with its name.

    Args:
        body: The file's bytes.
        name: Its name, for errors.

    Returns:
        The end of the sentence; empty when the file is data.

    Raises:
        UntrustedError: For a torch.package archive, which is never loaded.
        ModelError: When it is no torch.save file, or damaged.
    """
    members = members_of(body, name)
    if any("/.data/extern_modules" in f"/{member}" for member in members):
        raise UntrustedError(
            f"{name} is a torch.package archive, whose code runs while it is opened; it is never loaded. Save the "
            "state dict instead."
        )
    if any(member.endswith("constants.pkl") for member in members):
        return note("code_torchscript", "is TorchScript, which is code")
    if _is_tar(body) and _TAR_PICKLE not in body:
        raise ModelError(f"{name} is a tar archive of other files; unpack it and give the file of weights inside.")
    if _is_tar(body):
        return note("code_tar", "is in torch's old tar format, which is a pickle that runs code")
    if members and not any(member.endswith("data.pkl") for member in members):
        listed = ", ".join(members[:3])
        raise ModelError(
            f"{name} is a zip archive of other files ({listed}), not a torch.save file; unpack it and give the file of "
            "weights inside."
        )
    if not members and not _pickle_starts(body):
        raise ModelError(_no_torch_save(body, name))
    globals_asked = _unsafe_globals(body, members, name)
    if globals_asked:
        asked = listed_with_more(globals_asked, 6)
        return note("code_pickle", "is a pickle that needs code (it asks for {asked})", asked=asked)
    return NO_NOTE


def _no_torch_save(body: bytes, name: str) -> str:
    """What a file is instead, as far as its first bytes tell."""
    if body.startswith(b"version https://git-lfs"):
        return f"{name} is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull."
    if body.lstrip()[:1] == b"<":
        return f"{name} is a web page, not weights: the download gave a page in their place; download it again."
    if body.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return f"{name} is compressed; unpack it and give the file of weights inside."
    begins = f"it begins with {body[:4].hex()}" if body else "it is empty"
    return f"{name} is not a torch.save file ({begins}); export or download it again."


def members_of(body: bytes, name: str) -> list[str]:
    """The names inside a zip file.

    Args:
        body: The file's bytes.
        name: Its name, for errors.

    Returns:
        The names; empty for a file that is no zip.

    Raises:
        ModelError: For a damaged zip, or one that unpacks to far more than its size.
    """
    if not body.startswith(b"PK"):
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as fault:
        raise ModelError(f"{name} is cut short or damaged ({fault}); export or download it again.") from fault
    if sum(entry.file_size for entry in entries) > _INFLATION * len(body) + (1 << 20):
        raise ModelError(f"{name} unpacks to far more than its size, which torch.save never writes; it is not opened.")
    return [entry.filename for entry in entries]


def _is_tar(body: bytes) -> bool:
    return body[257:262] == b"ustar"


def _pickle_starts(body: bytes) -> bool:
    """Protocol 2 or newer, as every torch.save writes; protocols 0 and 1 have no mark and are recognised by parsing."""
    if body[:1] == b"\x80":
        return True
    try:
        next(iter(pickletools.genops(body[:4096])))
    except Exception:  # as above
        return False
    return bool(_globals_of(body))


def _unsafe_globals(body: bytes, members: list[str], name: str) -> list[str]:
    """The globals torch does not hold for data, in the order met. Read from the pickle's opcodes; nothing runs."""
    if not members:
        allowed = set(_allowed())
        names = [name.replace("__builtin__.", "builtins.") for name in _globals_of(body)]
        return [name for name in names if name not in allowed]
    try:
        with stand_ins():
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(body)))
    except Exception as fault:  # a reader of hostile bytes raises whatever it stumbles on
        raise ModelError(
            f"{name} is cut short or damaged ({first_line(fault)}); export or download it again."
        ) from fault


def _allowed() -> list[str]:
    from torch._weights_only_unpickler import _get_allowed_globals

    return [*_get_allowed_globals(), *STAND_INS, "torch.serialization._get_layout"]


def stand_ins() -> AbstractContextManager[None]:
    """Inside the block torch reads numbers, times and paths beside the weights as harmless values."""
    return torch.serialization.safe_globals([(value, name) for name, value in STAND_INS.items()])


def _globals_of(body: bytes) -> list[str]:
    """Every global named by the pickles that stand one after another at the start of `body`."""
    names: dict[str, None] = {}
    stream = io.BytesIO(body)
    try:
        while stream.tell() < len(body):
            strings: list[str] = []
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    names[str(argument).replace(" ", ".")] = None
                elif opcode.name == "STACK_GLOBAL":
                    names[".".join(strings[-2:]) or "?"] = None
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # behind the last pickle stand the raw numbers, which are no opcodes
        return list(names)
    return list(names)


def is_whole(body: bytes) -> bool:
    """Whether a file's own structure is intact, so that a refusal is about what it asks for.

    Args:
        body: The file's bytes.
    """
    if not body.startswith(b"PK"):
        return b"." in body[-64:] or len(_globals_of(body)) > 0
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, ValueError, EOFError):
        return False


def first_line(fault: BaseException) -> str:
    """The first line of a library's message, without its advice to load unsafely.

    Args:
        fault: The error.
    """
    text = str(fault).strip().split("\n", 1)[0]
    return text.split("(1)", 1)[0].strip().rstrip(".:") or type(fault).__name__
