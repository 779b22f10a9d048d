"""Coverage-guided fuzzing with atheris: `python tests/fuzz/targets.py picture -max_total_time=600`.

Whatever the bytes are, the outcome is a value or one of our own errors; anything else is a crash, whose input atheris
writes to a file. Arguments after the target's name are libFuzzer's: a corpus folder, -max_len=, -runs=, ...
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["audit.data", "audit.models.formats.safetensors_file", "audit.config", "PIL"]):
    from audit.config import load_config
    from audit.core.errors import AuditError
    from audit.data.image_decoding import UnreadableImage, decode, decode_mask, inspect_image, strict_pillow
    from audit.models.formats.safetensors_file import safetensors as read_safetensors

FOLDER = Path(tempfile.mkdtemp(prefix="audit-fuzz-"))


def picture(body: bytes) -> None:
    """Any bytes as a picture file."""
    with strict_pillow():
        for attempt in (
            inspect_image,
            lambda given: decode(given, (6, 5), grayscale=False),
            lambda g: decode_mask(g, (6, 5)),
        ):
            try:
                attempt(body)
            except UnreadableImage as why:
                assert str(why)


def safetensors(body: bytes) -> None:
    """Any bytes as a header, behind its true length and before some numbers."""
    path = FOLDER / "net.safetensors"
    path.write_bytes(len(body).to_bytes(8, "little") + body + bytes(64))
    try:
        assert read_safetensors(path).state
    except AuditError as fault:
        assert sentence(fault), fault


def toml(body: bytes) -> None:
    """Any bytes as a configuration."""
    path = FOLDER / "audit.toml"
    path.write_bytes(body)
    try:
        load_config(path)
    except AuditError as fault:
        assert sentence(fault), fault


def sentence(fault: BaseException) -> bool:
    """Whether a person can read it."""
    return bool(str(fault)) and "Traceback" not in str(fault)


TARGETS: Mapping[str, Callable[[bytes], None]] = {"picture": picture, "safetensors": safetensors, "toml": toml}


if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
