"""What every environment of the version matrix is given: images, weights, exports and files, stored once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from audit.data.load import load_dataset
from tests.benchmarks.onnx_exports import dynamo, script
from tests.benchmarks.subjects import _trained

IMAGES = 48
TRAINED_ON = 2_000


class Clamped(nn.Module):
    """The same function on every image, written with a clamp before it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.clamp(0, 1))


def store(folder: Path) -> None:
    """Train the net and write everything."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset("sample", train_examples=TRAINED_ON)
    assert dataset.train is not None
    net = _trained(dataset.train.batch(slice(0, TRAINED_ON)), len(dataset.classes), dataset.shape, 6, 0.0)
    test = dataset.test.batch(slice(0, 600))
    with torch.no_grad():
        right = (net(test.images).argmax(1) == test.labels).float().mean()
    print(f"accuracy {right:.3f}")
    np.save(folder / "images.npy", test.images[:IMAGES].numpy())
    np.save(folder / "labels.npy", test.labels[:IMAGES].numpy())
    save_file(net.state_dict(), folder / "net.safetensors")
    torch.save({"state_dict": net.state_dict(), "epoch": 3, "optimizer": {"lr": 1e-3}}, folder / "net.pt")
    for name, module in (("plain", net), ("clamped", Clamped(net).eval())):
        dynamo(module, test.images[:2], folder / f"{name}-dynamo.onnx", free=True)
        script(module, test.images[:2], folder / f"{name}-script.onnx", free=True)
    rng = np.random.default_rng(0)
    photograph = np.kron(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    for kind, quality in (("jpg", 88), ("png", None), ("webp", 80)):
        (folder / "pictures" / kind).mkdir(parents=True, exist_ok=True)
        for turned in range(2):
            picture = Image.fromarray(np.rot90(photograph, turned).copy())
            picture.save(folder / "pictures" / kind / f"{turned}.{kind}", **({"quality": quality} if quality else {}))
    (folder / "done").write_text(json.dumps({"torch": torch.__version__}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    store(Path(sys.argv[1]))
