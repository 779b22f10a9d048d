"""`samples/formats.md` is true: what each model format allows is measured, the rest is read from the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import audit
from audit.config import ModelConfig, TrustConfig
from audit.core import method_table
from audit.core.errors import UntrustedError
from audit.core.registry import find, methods
from audit.core.resources import resource_dir
from audit.data.load import described_formats, load_dataset
from audit.models.architecture import build
from audit.models.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
PAGE = resource_dir("samples") / "formats.md"
CLASSES, SHAPE = ("a", "b", "c"), (3, 12, 12)
HEAD = "| Format | Loads | With `--trust` | Attacked with gradients | Explained |"


def net() -> nn.Module:
    return build("cnn-28", classes=3, input_shape=SHAPE, seed=3).eval()


def images() -> Tensor:
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def onnx_file(path: Path) -> None:
    axes = {"x": {0: "n"}}
    torch.onnx.export(net(), (images(),), str(path), dynamo=False, input_names=["x"], dynamic_axes=axes)


def keras_file(path: Path) -> None:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers = keras.layers
    stack = [keras.Input((12, 12, 3)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    with torch.random.fork_rng(devices=[]):
        keras.Sequential(stack).save(path)


def hf_folder(path: Path, *, safe: bool = True) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3)
    with torch.random.fork_rng(devices=[]):
        ResNetForImageClassification(config).save_pretrained(path)
    if not safe:
        (path / "model.safetensors").unlink()
        torch.save(net(), path / "pytorch_model.bin")


def pt2_file(path: Path) -> None:
    free = ({0: torch.export.Dim("n", min=1, max=512)},)
    torch.export.save(torch.export.export(net(), (images(),), dynamic_shapes=free), path)


def python_file(path: Path) -> None:
    path.write_text(
        "from torch import nn\n"
        "def make(classes, input_shape):\n"
        "    return nn.Sequential(nn.Conv2d(input_shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, classes))\n"
    )


FORMATS: Mapping[str, tuple[str, Callable[[Path], object], str]] = {
    "safetensors": ("net.safetensors", lambda p: save_file(net().state_dict(), p), ""),
    "state dict `.pt`, `.pth`, `.bin`": ("net.pt", lambda p: torch.save(net().state_dict(), p), ""),
    "Lightning `.ckpt`": ("net.ckpt", lambda p: torch.save({"state_dict": net().state_dict()}, p), ""),
    "ONNX": ("net.onnx", onnx_file, "onnxruntime"),
    "Keras 3 `.keras`": ("net.keras", keras_file, "keras"),
    "Hugging Face folder, safetensors": ("net", hf_folder, "transformers"),
    "Hugging Face folder, `.bin`": ("net", lambda p: hf_folder(p, safe=False), "transformers"),
    "Keras 2 `.h5`": ("net.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), ""),
    "pickled module `.pt`": ("whole.pt", lambda p: torch.save(net(), p), ""),
    "TorchScript": ("script.pt", lambda p: torch.jit.trace(net(), images()).save(str(p)), ""),
    "torch.export `.pt2`": ("net.pt2", pt2_file, ""),
    "`FILE.py:FUNCTION`": ("net.py", python_file, ""),
}


def row(name: str, folder: Path) -> str:
    file, write, _ = FORMATS[name]
    path = folder / file
    write(path)
    plain = load(path, trusted=False)
    vouched = plain or load(path, trusted=True)
    if vouched is None:
        return f"| {name} | refused | refused | - | - |"
    model = audit.wrap(vouched, classes=CLASSES, input_shape=SHAPE, device="cpu")
    broken = audit.robustness(model, images(), model.predictions(images()), audit.ThreatModel("linf", 0.5))
    explained = audit.explain(model, images(), method="saliency")
    attacked = bool((~broken.robust).any()) and broken.passes.backwards > 0
    attributed = explained.status == "measured" and bool(explained.attributions.abs().sum() > 0)
    loads = "yes" if plain else "refused"
    return f"| {name} | {loads} | {'not needed' if plain else 'yes'} | {_yes(attacked)} | {_yes(attributed)} |"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def load(path: Path, *, trusted: bool) -> nn.Module | None:
    trust = (TrustConfig(path=str(path)),) if trusted else ()
    code, weights = path.suffix == ".py", f"hf:{path}" if path.is_dir() else str(path)
    config = ModelConfig(
        architecture=f"{path}:make" if code else "cnn-28", weights=None if code else weights, trust=trust
    )
    try:
        return load_model(config, classes=CLASSES, input_shape=SHAPE, device="cpu", seed=0).module
    except UntrustedError:
        return None


@pytest.mark.parametrize("name", FORMATS)
def test_the_committed_table_of_formats_is_what_happens(name: str, tmp_path: Path) -> None:
    needed = FORMATS[name][2]
    if needed and find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    assert row(name, tmp_path) in table(HEAD)


def table(head: str) -> list[str]:
    """The rows of the page's table under `head`."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = lines[lines.index(head) + 2 :]
    return rows[: rows.index("")]


def test_the_table_has_every_format_and_no_other() -> None:
    assert [line.split("|")[1].strip() for line in table(HEAD)] == list(FORMATS)


def test_the_page_lists_the_registered_data_formats() -> None:
    listed = zip(described_formats(), methods("data-format"), strict=True)
    expected = [f"| `{text}` | {method.summary} | {method.reference} |" for text, method in listed]
    assert table("| Source | What it reads | Reference |") == expected


def test_the_page_lists_the_settings_of_drawn_shapes() -> None:
    rows = [line.split("|")[1:3] for line in table("| Setting | Default | Meaning |")]
    settings = find("data-format", "shapes").defaults
    assert [(name.strip(" `"), default.strip()) for name, default in rows] == [(k, str(v)) for k, v in settings.items()]


def test_the_page_lists_the_registered_suffixes_of_models() -> None:
    suffixes = [", ".join(f"`{suffix}`" for suffix in m.facts["suffixes"]) for m in methods("model-format")]
    summaries = [method.summary for method in methods("model-format")]
    expected = [f"| {listed} | {summary} |" for listed, summary in zip(suffixes, summaries, strict=True)]
    assert table("| Suffix | What it reads |") == expected


def test_the_pages_example_of_a_format_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    monkeypatch.setattr(method_table, "_METHODS", dict(method_table._METHODS))
    exec(code, {"__name__": "outside"})
    np.save(tmp_path / "digits.images.npy", np.zeros((10, 8, 8), np.uint8))
    np.save(tmp_path / "digits.labels.npy", np.arange(10))
    assert load_dataset(f"npy-pair:{tmp_path / 'digits'}", image_size=4).shape == (1, 4, 4)
