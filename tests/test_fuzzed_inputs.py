"""Whatever the bytes are, the outcome is a value or one of our own errors: never another exception, never a crash."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from audit.config import RunConfig, load_config
from audit.core.errors import AuditError
from audit.data.formats.idx import read_idx
from audit.data.image_decoding import UnreadableImage, decode, inspect_image, strict_pillow
from audit.data.safe_pickle import read_number_pickle
from audit.models.load import read_checkpoint

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
long = settings(quick, max_examples=1500)
KINDS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")


@cache
def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


@cache
def checkpoint(ending: str) -> bytes:
    state = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
    if ending == ".safetensors":
        return save(state)
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=ending == ".pt")
    return stream.getvalue()


@st.composite
def spoiled(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` with a few bytes changed, perhaps cut short or lengthened."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(0, 6))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    keep = draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    return bytes(changed[:keep]) + draw(st.binary(max_size=4))


def sentence(fault: BaseException) -> bool:
    return str(fault).endswith(".") and "\n" not in str(fault)


def try_picture(body: bytes) -> None:
    with strict_pillow():
        for read in (inspect_image, lambda given: decode(given, (6, 5), grayscale=False)):
            try:
                read(body)
            except UnreadableImage as why:
                assert str(why)


def try_checkpoint(body: bytes, ending: str, folder: Path) -> None:
    path = folder / f"net{'.pt' if ending == '.old' else ending}"
    path.write_bytes(body)
    try:
        content = read_checkpoint(path, ())
    except AuditError as fault:
        assert sentence(fault), fault
    else:
        assert content.state


@quick
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_spoiled_pictures_are_read_or_unreadable(data: st.DataObject, kind: str) -> None:
    try_picture(data.draw(spoiled(picture(kind))))


@quick
@given(data=st.data(), ending=st.sampled_from([".safetensors", ".pt", ".old"]))
def test_spoiled_checkpoints_are_read_or_refused(data: st.DataObject, ending: str, tmp_path: Path) -> None:
    try_checkpoint(data.draw(spoiled(checkpoint(ending))), ending, tmp_path)


@quick
@given(size=st.integers(0, 1 << 63), header=st.text(max_size=40), rest=st.binary(max_size=20))
def test_invented_safetensors_files_are_refused(size: int, header: str, rest: bytes, tmp_path: Path) -> None:
    text = header.encode("utf-8", "surrogatepass")
    for length in (size, len(text)):
        try_checkpoint(struct.pack("<Q", length) + text + rest, ".safetensors", tmp_path)


@quick
@given(data=st.data())
def test_spoiled_idx_files_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    body = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4) + bytes(24)
    (tmp_path / "x").write_bytes(data.draw(spoiled(body)))
    try:
        assert read_idx(tmp_path / "x").dtype == np.uint8
    except AuditError as fault:
        assert sentence(fault), fault


@quick
@given(body=st.one_of(st.binary(max_size=40), spoiled(np.zeros((2, 3), np.uint8).dumps())))
def test_invented_pickles_of_numbers_are_read_or_refused(body: bytes) -> None:
    try:
        read_number_pickle(body, "x")
    except AuditError as fault:
        assert str(fault).startswith("x ")


keys = st.sampled_from(["seed", "data", "training", "epochs", "source", "model", "trust", "eps", "robustness", "x"])
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text("ab8/25. ", max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


@quick
@given(tree=st.dictionaries(keys, values, max_size=4))
def test_invented_configurations_are_valid_or_named(tree: dict[str, Any]) -> None:
    try:
        assert isinstance(load_config(overrides=tree), RunConfig)
    except AuditError as fault:
        assert "onfiguration key" in str(fault) or "nknown" in str(fault)


@quick
@given(text=st.text(max_size=60))
def test_invented_toml_is_valid_or_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_config(tmp_path / "audit.toml"), RunConfig)
    except AuditError as fault:
        assert "audit.toml" in str(fault) or "onfiguration key" in str(fault)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_spoiled_pictures(kind: str) -> None:
    many(spoiled(picture(kind)), try_picture)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".old"])
def test_many_spoiled_checkpoints(ending: str, tmp_path: Path) -> None:
    many(spoiled(checkpoint(ending)), lambda body: try_checkpoint(body, ending, tmp_path))


def many(bodies: st.SearchStrategy[bytes], attempt: Callable[[bytes], None]) -> None:
    @long
    @given(body=bodies)
    def each(body: bytes) -> None:
        attempt(body)

    each()
