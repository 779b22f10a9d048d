"""A corpus of hostile files, each of which would create a file if anything in it ran. None does; each is told why.

Every file goes through the command line in this process, so that a payload would reach this disk.
"""

from __future__ import annotations

import gc
import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from audit.cli.app import app
from audit.models.architecture import build

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


class Payload:
    """Unpickling it creates the file `target`."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (open, (str(self.target), "w"))


class Canary(NamedTuple):
    """`make(folder, target)` writes the hostile file and returns the command line for it."""

    make: Callable[[Path, Path], list[str]]
    code: int
    said: str


def model(path: Path) -> list[str]:
    return ["run", "--model", str(path), "--architecture", "cnn-28"]


def torch_file(name: str, *, old: bool = False) -> Callable[[Path, Path], list[str]]:
    def make(folder: Path, target: Path) -> list[str]:
        torch.save({"state_dict": Payload(target)}, folder / name, _use_new_zipfile_serialization=not old)
        return model(folder / name)

    return make


def bare_pickle(name: str, protocol: int) -> Callable[[Path, Path], list[str]]:
    def make(folder: Path, target: Path) -> list[str]:
        (folder / name).write_bytes(pickle.dumps({"w": Payload(target)}, protocol=protocol))
        return model(folder / name)

    return make


def old_tar(folder: Path, target: Path) -> list[str]:
    body = pickle.dumps(Payload(target), protocol=2)
    with tarfile.open(folder / "net.pt", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return model(folder / "net.pt")


def numpy_in_pickle(folder: Path, target: Path) -> list[str]:
    """An allowed-looking global (numpy's array builder) with the payload inside an array of objects."""
    torch.save({"w": np.array([Payload(target)], dtype=object)}, folder / "net.pt")
    return model(folder / "net.pt")


def module_file(folder: Path, target: Path) -> list[str]:
    torch.save(build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0), folder / "net.pth")
    return model(folder / "net.pth")


def torchscript(folder: Path, target: Path) -> list[str]:
    net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).eval()
    torch.jit.trace(net, torch.rand(1, 1, 28, 28)).save(str(folder / "net.pt"))
    return model(folder / "net.pt")


def torch_package(folder: Path, target: Path) -> list[str]:
    with zipfile.ZipFile(folder / "net.pt", "w") as archive:
        archive.writestr("net/.data/extern_modules", "os\n")
        archive.writestr("net/model.py", f"open({str(target)!r}, 'w')")
        archive.writestr("net/data.pkl", pickle.dumps(Payload(target), protocol=2))
    return model(folder / "net.pt")


def export_archive(folder: Path, target: Path) -> list[str]:
    with zipfile.ZipFile(folder / "net.pt2", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/data/sample_inputs/model.pt", pickle.dumps(Payload(target), protocol=2))
    return model(folder / "net.pt2")


def hdf5(folder: Path, target: Path) -> list[str]:
    (folder / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + pickle.dumps(Payload(target)))
    return model(folder / "net.h5")


def keras_file(layer: dict[str, Any]) -> Callable[[Path, Path], list[str]]:
    def make(folder: Path, target: Path) -> list[str]:
        if find_spec("keras") is None:
            pytest.skip("needs the extra keras")
        written = json.loads(json.dumps(layer).replace("TARGET", str(target)))
        config = {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"layers": [written]},
            "registered_name": None,
        }
        with zipfile.ZipFile(folder / "net.keras", "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.8.0"}))
        return model(folder / "net.keras")

    return make


def onnx_outside(folder: Path, target: Path) -> list[str]:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).eval()
    torch.onnx.export(net, (torch.rand(1, 1, 28, 28),), str(folder / "net.onnx"), dynamo=False)
    proto = onnx.load(str(folder / "net.onnx"))
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], location="../../../../etc/hostname")
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    return model(folder / "net.onnx")


def object_arrays(folder: Path, target: Path) -> list[str]:
    np.savez(folder / "d.npz", images=np.array([Payload(target)], dtype=object), labels=np.arange(1))
    return ["run", "--data", f"npz:{folder / 'd.npz'}"]


def cifar(folder: Path, target: Path) -> list[str]:
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Payload(target)}))
    return ["run", "--data", f"cifar10:{folder}"]


def tar_of(member: tarfile.TarInfo) -> Callable[[Path, Path], list[str]]:
    def make(folder: Path, target: Path) -> list[str]:
        with tarfile.open(folder / "d.tar", "w") as archive:
            member.linkname = member.linkname and str(target)
            member.name = member.name.replace("TARGET", str(target).lstrip("/"))
            archive.addfile(member, io.BytesIO(b""))
        return ["run", "--data", f"archive:{folder / 'd.tar'}"]

    return make


def link() -> tarfile.TarInfo:
    member = tarfile.TarInfo("train/cat/x.png")
    member.type, member.linkname = tarfile.SYMTYPE, "TARGET"
    return member


def pictures(bad: bytes, name: str) -> Callable[[Path, Path], list[str]]:
    """A folder in which every picture of one class is the hostile one."""

    def make(folder: Path, target: Path) -> list[str]:
        for part in ("train", "test"):
            for animal in ("cat", "dog"):
                (folder / part / animal).mkdir(parents=True)
                Image.new("L", (28, 28), 90).save(folder / part / animal / "0.png")
        (folder / "test" / "dog" / "0.png").unlink()
        (folder / "test" / "dog" / name).write_bytes(bad)
        return ["run", "--data", f"folder:{folder}"]

    return make


def png_bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 100)]
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4)


def code_file(folder: Path, target: Path) -> list[str]:
    (folder / "net.py").write_text(f"open({str(target)!r}, 'w')\ndef make(): ...\n")
    return ["run", "--architecture", f"{folder / 'net.py'}:make"]


def hostile_postscript(target: str) -> bytes:
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({target}) (w) file closefile\n".encode()


FUNCTION = {"module": "builtins", "class_name": "function", "config": "open", "registered_name": "function"}
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "x", "function": FUNCTION}}
DOWNLOAD = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {
        "name": "d",
        "units": 2,
        "kernel_initializer": {
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "get_file",
        },
    },
}

CORPUS: Mapping[str, Canary] = {
    "pickle in .pt": Canary(torch_file("net.pt"), 4, "needs code"),
    "pickle in .pth": Canary(torch_file("net.pth"), 4, "needs code"),
    "pickle in .bin": Canary(torch_file("net.bin"), 4, "needs code"),
    "pickle in .ckpt": Canary(torch_file("net.ckpt"), 4, "needs code"),
    "pickle in torch's old format": Canary(torch_file("net.pt", old=True), 4, "needs code"),
    "bare pickle, protocol 0": Canary(bare_pickle("net.pt", 0), 4, "needs code"),
    "bare pickle, protocol 2": Canary(bare_pickle("net.pt", 2), 4, "needs code"),
    "bare pickle, protocol 5": Canary(bare_pickle("net.pt", 5), 4, "needs code"),
    "pickle in torch's tar": Canary(old_tar, 4, "tar format"),
    "pickle inside an array": Canary(numpy_in_pickle, 4, "needs code"),
    "whole module": Canary(module_file, 4, "needs code"),
    "TorchScript": Canary(torchscript, 4, "TorchScript"),
    "torch.package": Canary(torch_package, 4, "torch.package"),
    "torch.export": Canary(export_archive, 4, "torch.export"),
    "Keras HDF5": Canary(hdf5, 4, "old HDF5 format"),
    "Keras Lambda": Canary(keras_file(LAMBDA), 4, "Lambda"),
    "Keras function": Canary(keras_file(FUNCTION), 4, "builtins.function"),
    "Keras download": Canary(keras_file(DOWNLOAD), 4, "keras.utils.function"),
    "ONNX data outside": Canary(onnx_outside, 4, "outside its own folder"),
    "npz of objects": Canary(object_arrays, 2, "could run code"),
    "CIFAR pickle": Canary(cifar, 4, "which is code"),
    "tar with ..": Canary(tar_of(tarfile.TarInfo("../../../../../../TARGET")), 2, "leads out"),
    "tar with an absolute path": Canary(tar_of(tarfile.TarInfo("/TARGET")), 2, "leads out"),
    "tar with a link": Canary(tar_of(link()), 2, "is a link"),
    "PNG bomb": Canary(pictures(png_bomb(30_000, 30_000), "x.png"), 2, "decompression bomb"),
    "TIFF of 60,000 x 60,000": Canary(pictures(tiff_header(60_000, 60_000), "x.tiff"), 2, "decompression bomb"),
    "PostScript called PNG": Canary(pictures(hostile_postscript("canary"), "x.png"), 2, "it is no JPEG"),
    "Python file": Canary(code_file, 4, "--trust"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_nothing_in_a_hostile_file_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = CORPUS[name]
    target, folder = tmp_path / "canary", tmp_path / "given"
    folder.mkdir()
    monkeypatch.chdir(folder)
    command = canary.make(folder, target)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ended = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--no-color"])
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and canary.said in errors[0], ended.stderr
    assert ended.exit_code == canary.code
    assert not target.exists() and not (tmp_path / "out").exists()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name", ["pickle in .pt", "pickle in torch's old format", "bare pickle, protocol 2", "Python file"]
)
def test_the_payloads_are_real(name: str, tmp_path: Path) -> None:
    """Trusted, the same files do create the file: the corpus would notice if anything ran."""
    target = tmp_path / "canary"
    command = CORPUS[name].make(tmp_path, target)
    path = command[command.index("--model" if "--model" in command else "--architecture") + 1].split(":")[0]
    with warnings.catch_warnings():
        # The payload opens a file and leaves it open: it is collected here, before another test is blamed for it.
        warnings.simplefilter("ignore", ResourceWarning)
        CliRunner().invoke(app, [*command, "--trust", path, "--out", str(tmp_path / "out")])
        gc.collect()
    assert target.exists()


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 12
