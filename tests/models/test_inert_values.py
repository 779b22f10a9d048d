"""Numbers, times and paths beside the weights need no trust; code does; what is no checkpoint is named."""

from __future__ import annotations

import argparse
import collections
import datetime
import gzip
import io
import pathlib
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

import audit
from audit.config import TrustConfig
from audit.core.errors import ModelError, UntrustedError
from audit.models.architecture import build
from audit.models.formats.torch_checkpoint import torch_save
from audit.training.transfer import pretrained_state

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}
BESIDE: dict[str, Any] = {
    "best_acc": np.float64(0.9),
    "epoch": np.int64(3),
    "flag": np.bool_(True),
    "history": collections.defaultdict(list, {"loss": [np.float32(1), 2.0]}),
    "queue": collections.deque([1, 2]),
    "counts": collections.Counter("aab"),
    "when": datetime.datetime.now(datetime.UTC),
    "took": datetime.timedelta(hours=1),
    "out": pathlib.Path("runs/1"),
    "confusion": np.eye(3),
    "names": np.array(["a", "b"]),
    "mixed": np.array([1, "x"], dtype=object),
    "dtype": np.dtype("float32"),
    "rng": np.random.RandomState(0).get_state(),
    "set": {1, 2},
    "frozen": frozenset([1]),
    "complex": 1j,
}


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_times_and_paths_beside_the_weights_need_no_trust(zipped: bool, tmp_path: Path) -> None:
    torch.save({"model": STATE, **BESIDE}, tmp_path / "run.pth", _use_new_zipfile_serialization=zipped)
    state = torch_save(tmp_path / "run.pth", ()).state
    assert state is not None and torch.equal(state["weight"], STATE["weight"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2"])
def test_arrays_of_numbers_are_weights_too(order: Any, kind: str, tmp_path: Path) -> None:
    arrays = {name: np.array(tensor.numpy(), dtype=kind, order=order) for name, tensor in STATE.items()}
    torch.save(arrays, tmp_path / "run.pth")
    state = torch_save(tmp_path / "run.pth", ()).state
    assert state is not None and torch.equal(state["weight"].float(), STATE["weight"])


def test_code_beside_the_weights_needs_trust_and_the_other_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(1)}, path)
    with pytest.raises(UntrustedError, match=r"argparse\.Namespace.*Or save the state dict alone"):
        torch_save(path, ())
    with pytest.raises(UntrustedError):
        pretrained_state(path)
    assert torch.equal(pretrained_state(path, (TrustConfig(path=str(path)),))["weight"], STATE["weight"])


def test_pretrained_weights_come_out_of_a_trusted_whole_module(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    module = nn.Linear(3, 2)
    torch.save({"ema": module, "model": nn.Linear(3, 2)}, path)
    assert torch.equal(pretrained_state(path, (TrustConfig(path=str(path)),))["weight"], module.weight)


def test_training_in_python_takes_trust_too(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    state = build("cnn-28", classes=2, input_shape=(1, 12, 12), seed=0).state_dict()
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, path)
    images, labels = torch.rand(40, 1, 12, 12), torch.arange(40) % 2
    settings = {"architecture": "cnn-28", "classes": 2, "epochs": 1, "batch_size": 16, "pretrained": path}
    with pytest.raises(UntrustedError):
        audit.train(images, labels, **settings)
    assert audit.train(images, labels, trust=[path], **settings).kept_epoch == 1


def test_stand_ins_decode_nothing_that_does_not_add_up(tmp_path: Path) -> None:
    """A scalar whose bytes are too few is no number, and no crash."""
    stream = io.BytesIO()
    torch.save({"model": STATE, "best": np.float64(0.9)}, stream)
    body = stream.getvalue().replace(b"f8", b"f2", 1)
    (tmp_path / "run.pth").write_bytes(body)
    try:
        torch_save(tmp_path / "run.pth", ())
    except ModelError as fault:
        assert "damaged" in str(fault)


def archive_of(kind: str) -> bytes:
    stream, inner = io.BytesIO(), b"\x80\x02weights"
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(zipfile.ZipInfo("net.pth"), inner)  # of a fixed date: the bytes name the test
    else:
        with tarfile.open(fileobj=stream, mode="w") as archive_file:
            entry = tarfile.TarInfo("net.pth")
            entry.size = len(inner)
            archive_file.addfile(entry, io.BytesIO(inner))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (gzip.compress(b"weights", mtime=0), "compressed"),
        (archive_of("zip"), "zip archive of other files"),
        (archive_of("tar"), "tar archive of other files"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_checkpoint_is_named_for_what_it_is(body: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(body)
    with pytest.raises(ModelError, match=sentence):
        torch_save(tmp_path / "net.pth", ())


def test_safetensors_under_another_name_load(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(save(STATE))
    state = torch_save(tmp_path / "pytorch_model.bin", ()).state
    assert state is not None and torch.equal(state["weight"], STATE["weight"])


def test_a_list_of_tensors_is_told_what_it_lacks(tmp_path: Path) -> None:
    torch.save(list(STATE.values()), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="without names"):
        torch_save(tmp_path / "net.pth", ())
