"""A table of bad inputs: each ends with its exit code and one sentence, and leaves nothing half-written.

A row is a function of a scratch folder that makes the bad input and returns the command line, without `--out`.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from audit.cli.app import app
from audit.models.architecture import build


class Row(NamedTuple):
    make: Callable[[Path], list[str]]
    code: int
    said: str


def pictures(
    base: Path, *, classes: tuple[str, ...] = ("cat", "dog"), parts: tuple[str, ...] = ("train", "test")
) -> Path:
    for part in parts:
        for c, name in enumerate(classes):
            (base / part / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (28, 28), (90 * c, 40 * i, 80)).save(base / part / name / f"{i}.png")
    return base


def folder(change: Callable[[Path], Any]) -> Callable[[Path], list[str]]:
    def make(tmp: Path) -> list[str]:
        change(pictures(tmp / "pets"))
        return ["run", "--data", f"folder:{tmp / 'pets'}"]

    return make


def data(source: str) -> Callable[[Path], list[str]]:
    return lambda tmp: ["run", "--data", source.format(tmp=tmp)]


def npz(**arrays: Any) -> Callable[[Path], list[str]]:
    def make(tmp: Path) -> list[str]:
        np.savez(tmp / "d.npz", **arrays)
        return ["run", "--data", f"npz:{tmp / 'd.npz'}"]

    return make


def flags(*given: str) -> Callable[[Path], list[str]]:
    return lambda tmp: ["run", *given]


def configuration(text: str) -> Callable[[Path], list[str]]:
    def make(tmp: Path) -> list[str]:
        (tmp / "audit.toml").write_text(text)
        return ["run", str(tmp / "audit.toml")]

    return make


def model(write: Callable[[Path], Any], *given: str, name: str = "net.pt") -> Callable[[Path], list[str]]:
    def make(tmp: Path) -> list[str]:
        write(tmp / name)
        return ["run", "--model", str(tmp / name), "--architecture", "cnn-28", *given]

    return make


def code(text: str, function: str = "make", *, trust: bool = True) -> Callable[[Path], list[str]]:
    def make(tmp: Path) -> list[str]:
        (tmp / "net.py").write_text(text)
        vouch = ["--trust", str(tmp / "net.py")] if trust else []
        return ["run", "--architecture", f"{tmp / 'net.py'}:{function}", *vouch]

    return make


def net(classes: int = 10) -> torch.nn.Module:
    return build("cnn-28", classes=classes, input_shape=(1, 28, 28), seed=0)


def saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def emptied(base: Path) -> None:
    for path in (base / "train" / "dog").iterdir():
        path.unlink()


def old_run(tmp: Path) -> list[str]:
    (tmp / "out").mkdir()
    (tmp / "out" / "run.json").write_text(json.dumps({"tool": "audit", "format": 999}))
    return ["run"]


def out_named_too_long(tmp: Path) -> list[str]:
    return ["run", "--out", str(tmp / ("a" * 300))]


def out_is_a_file(tmp: Path) -> list[str]:
    (tmp / "out").write_text("mine")
    return ["run"]


IMAGES = np.zeros((6, 28, 28), np.uint8)
LABELS = np.arange(6) % 3
GARBAGE = b"this is no checkpoint at all\n" * 9

TABLE: Mapping[str, Row] = {
    # data
    "an unknown source": Row(data("fashoin-mnist:x"), 2, "Did you mean 'fashion-mnist:DIR'"),
    "a source without its place": Row(data("folder"), 2, "write folder:DIR"),
    "a place too many": Row(data("digits:here"), 2, "takes no place"),
    "an absent folder": Row(data("folder:{tmp}/absent"), 2, "No folder"),
    "an empty folder": Row(lambda tmp: ["run", "--data", f"folder:{tmp}"], 2, "holds 0 class folders"),
    "an empty class folder": Row(folder(emptied), 2, "'train/dog' holds no images"),
    "a class never trained": Row(folder(lambda b: pictures(b, classes=("fox",), parts=("test",))), 2, "class 'fox'"),
    "corrupt images throughout": Row(
        folder(lambda b: [p.write_bytes(b"\x89PNG\r\n\x1a\n") for p in b.rglob("*.png")]), 2, "12 of 12 images"
    ),
    "a class all corrupt": Row(
        folder(lambda b: [p.write_bytes(GARBAGE) for p in (b / "test" / "dog").iterdir()]), 2, "No image of class 'dog'"
    ),
    "a column of data without columns": Row(
        lambda tmp: ["run", "--data", f"folder:{pictures(tmp / 'p')}", "--label-column", "kind"], 2, "has no columns"
    ),
    "a share of data in two parts": Row(
        lambda tmp: ["run", "--data", f"folder:{pictures(tmp / 'p')}", "--test-share", "0.5"],
        2,
        "a train and a test part",
    ),
    "an absent MNIST": Row(data("mnist:{tmp}"), 2, "t10k-images-idx3-ubyte"),
    "an absent CIFAR-10": Row(data("cifar10:{tmp}"), 2, "cifar-10-batches-py"),
    "an absent npz": Row(data("npz:{tmp}/d.npz"), 2, "No file"),
    "an npz of other names": Row(npz(a=IMAGES), 2, "x_test and y_test"),
    "labels out of range": Row(
        npz(images=IMAGES, labels=LABELS, classes=np.array(["a", "b"])), 2, "0 to 1 was expected"
    ),
    "negative labels": Row(npz(images=IMAGES, labels=LABELS - 2), 2, "label -2"),
    "fewer labels than images": Row(npz(images=IMAGES, labels=LABELS[:4]), 2, "6 images but 4 labels"),
    "four channels": Row(npz(images=np.zeros((6, 28, 28, 4), np.uint8), labels=LABELS), 2, "1 or 3 channels"),
    "normalised pixels": Row(npz(images=IMAGES - 0.5, labels=LABELS), 2, "Undo any normalisation"),
    "training and test of two sizes": Row(
        npz(x_train=IMAGES[:, :9, :9], y_train=LABELS, x_test=IMAGES, y_test=LABELS), 2, "training images of shape"
    ),
    "an npz of objects": Row(npz(images=np.array([{}], object), labels=LABELS), 2, "could run code"),
    # models
    "an absent checkpoint": Row(lambda tmp: ["run", "--model", str(tmp / "net.pt")], 2, "no file"),
    "a folder for a checkpoint": Row(lambda tmp: ["run", "--model", str(tmp)], 2, "a folder"),
    "an unknown ending": Row(model(lambda p: p.write_bytes(GARBAGE), name="net.xyz"), 2, "no format known here"),
    "no checkpoint at all": Row(model(lambda p: p.write_bytes(GARBAGE)), 2, "is not a torch.save file"),
    "an empty checkpoint": Row(model(lambda p: p.write_bytes(b"")), 2, "is not a torch.save file"),
    "a checkpoint cut short": Row(model(lambda p: p.write_bytes(saved(net().state_dict())[:9000])), 2, "cut short"),
    "safetensors cut short": Row(
        model(lambda p: save_file(net().state_dict(), p) or p.write_bytes(p.read_bytes()[:9000]), name="n.safetensors"),
        2,
        "not a whole safetensors file",
    ),
    "no state dict inside": Row(model(lambda p: p.write_bytes(saved([1, 2]))), 2, "where a state dict"),
    "another architecture's weights": Row(
        model(lambda p: torch.save(torch.nn.Linear(2, 2).state_dict(), p)), 2, "missing: "
    ),
    "another number of classes": Row(model(lambda p: torch.save(net(7).state_dict(), p)), 2, "of another shape"),
    "sparse weights": Row(
        model(lambda p: torch.save({k: v.to_sparse() for k, v in net().state_dict().items()}, p)), 2, "sparse"
    ),
    "weights that are NaN": Row(
        model(lambda p: torch.save({k: v * float("nan") for k, v in net().state_dict().items()}, p), "--no-harden"),
        2,
        "not finite",
    ),
    "a pickled module": Row(model(lambda p: torch.save(net(), p)), 4, "is a pickle that needs code"),
    "a bare pickle with a payload": Row(model(lambda p: p.write_bytes(pickle.dumps(print))), 4, "print"),
    "an unknown architecture": Row(flags("--architecture", "cnn-82"), 2, "Did you mean"),
    "an unknown torchvision net": Row(flags("--architecture", "torchvision:resnet17"), 2, "resnet18"),
    "a net for colour on grey images": Row(
        code("from torch import nn\ndef make(): return nn.Sequential(nn.Conv2d(3, 2, 3))"), 2, "does not run on images"
    ),
    "code nobody vouched for": Row(code("1/0", trust=False), 4, "--trust"),
    "code that does not parse": Row(code("def make(:"), 2, "SyntaxError"),
    "code without the function": Row(code("def build(): ..."), 2, "Known: build"),
    "code that returns no module": Row(code("def make(): return 7"), 2, "returned int"),
    "code that raises": Row(code("def make(): raise ValueError('no')"), 2, "ValueError: no"),
    "an absent file of code": Row(lambda tmp: ["run", "--architecture", f"{tmp}/net.py:make"], 2, "no file"),
    "a changed file of code": Row(
        lambda tmp: [
            *code("def make(): ...", trust=False)(tmp),
            "--set",
            f"model.trust=[{{path='{tmp}/net.py', sha256='{'0' * 64}'}}]",
        ],
        4,
        "has changed since it was trusted",
    ),
    "means of three channels for grey": Row(
        model(lambda p: torch.save(net().state_dict(), p), "--no-harden", "--mean", ".1,.2,.3"), 2, "3 values"
    ),
    "a negative std": Row(
        model(lambda p: torch.save(net().state_dict(), p), "--no-harden", "--std", "-1"), 2, "must be positive"
    ),
    # configuration and flags
    "an absent configuration": Row(flags("absent.toml"), 2, "Cannot read the configuration"),
    "no TOML": Row(configuration("[data"), 2, "is not valid TOML"),
    "an unknown key": Row(configuration("[training]\nepoch = 3\n"), 2, "line 2: training.epoch"),
    "an unknown table": Row(configuration("[trainning]\nepochs = 3\n"), 2, "Did you mean 'training'"),
    "a wrong type": Row(configuration("seed = 'x'\n"), 2, "line 1: seed"),
    "a value out of range": Row(configuration("[criteria]\nclean_accuracy = 2\n"), 2, "less than or equal to 1"),
    "an unknown preset": Row(flags("--preset", "quik"), 2, "Did you mean 'quick'"),
    "an unknown optimiser": Row(flags("--set", "training.optimizer=adan"), 2, "training.optimizer"),
    "an unknown explanation": Row(flags("--set", "explanations.methods=['limee']"), 2, "Did you mean 'lime'"),
    "an unknown corruption": Row(flags("--set", "corruptions.names=['fogg']"), 2, "Unknown corruption 'fogg'"),
    "an unknown battery": Row(flags("--battery", "quik"), 2, "quick"),
    "an unknown norm": Row(flags("--norm", "l7"), 2, "robustness.norm"),
    "an eps of zero": Row(flags("--eps", "0"), 2, "robustness.eps"),
    "an eps that is no number": Row(flags("--eps", "a lot"), 2, "robustness.eps"),
    "a mean that is no number": Row(flags("--mean", "a,b"), 2, "--mean"),
    "a setting without its value": Row(flags("--set", "seed"), 2, "KEY=VALUE"),
    "an image size too small": Row(flags("--image-size", "3"), 2, "data.image_size"),
    # environment
    "an unknown engine": Row(flags("--engine", "spark"), 2, "in-process, ray or ray:ADDRESS was expected"),
    "no workers": Row(flags("--jobs", "0"), 2, "--jobs"),
    "cells of no images": Row(flags("--set", "chunk=0"), 2, "chunk"),
    "an absent device": Row(flags("--device", "cuda:99"), 5, "not usable here"),
    "an unknown device": Row(flags("--device", "toaster"), 5, "not usable here"),
    "a run folder of another version": Row(old_run, 2, "another version"),
    "a run folder where none can be": Row(lambda tmp: ["run", "--out", "/dev/null/run"], 5, "Not a directory"),
    "a run folder of too long a name": Row(out_named_too_long, 5, "File name too long"),
    "a file for a run folder": Row(out_is_a_file, 2, "is a file"),
}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_input_ends_with_one_sentence_and_its_code(name: str, tmp_path: Path) -> None:
    row = TABLE[name]
    command = row.make(tmp_path)
    before = contents(tmp_path)
    ended = CliRunner().invoke(app, [command[0], "--out", str(tmp_path / "out"), *command[1:], "--no-color"])
    assert ended.exit_code == row.code, ended.output
    said = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and row.said in said[0], ended.stderr
    assert said[0].endswith(".") and "Traceback" not in ended.output
    assert contents(tmp_path) == before


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(TABLE) >= 60


def test_verbose_shows_where_it_came_from(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["run", "--data", "nothing", "-v", "--out", str(tmp_path / "out")])
    assert ended.exit_code == 2 and "Traceback" in ended.stderr


def test_json_gives_the_sentence_on_stdout_too(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["run", "--data", "nothing", "--json", "--out", str(tmp_path / "out")])
    document = json.loads(ended.stdout)
    assert document["exit_code"] == 2 and "Unknown data source" in document["error"]
