"""Classifiers of torchvision, exported to ONNX and loaded again: `python tests/benchmarks/onnx_exports.py`.

Both exporters of torch, random weights, small images; each net for one batch size (as exported by default) and for any.
A row says how far logits and their gradient to the pixels are from the net's own, as a share of the largest, how many
images at a time the file is asked (0 for any number), and the time of a forward beside the net's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from audit.core.errors import ModelError
from audit.models.load import read_checkpoint

NAMES = (
    *("alexnet", "vgg11", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "densenet121"),
    *("googlenet", "squeezenet1_0", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf", "mnasnet0_5", "swin_t"),
    *("inception_v3", "vit_small"),
)
SIZES = {"inception_v3": 299, "swin_t": 224, "vit_small": 32}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stdout, of C++ neither: the older exporter prints whole graphs when it fails."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit_small":  # vit_b_16 in small
        net = torchvision.models.VisionTransformer(32, 8, 2, 2, 64, 128, num_classes=10)
        nn.init.normal_(net.heads[0].weight)
        return net.eval()
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(num_classes=10, **options).eval()


def dynamo(net: nn.Module, images: Tensor, path: Path, *, free: bool) -> None:
    options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)} if free else {}
    torch.onnx.export(net, (images,), str(path), verbose=False, **options)


def script(net: nn.Module, images: Tensor, path: Path, *, free: bool) -> None:
    options: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}}} if free else {}
    torch.onnx.export(net, (images,), str(path), dynamo=False, input_names=["x"], **options)


def share(one: Tensor, other: Tensor) -> str:
    return f"{float((one - other).abs().max() / other.abs().max()):.0e}"


def seconds(net: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        net(images)
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            net(images)
            taken.append(time.perf_counter() - begun)
    return min(taken)


def row(name: str, export: Callable[..., None], *, free: bool) -> Iterator[str]:
    net, size = made(name), SIZES.get(name, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        try:
            with _silent():
                export(net, torch.rand(2 if free else 1, 3, size, size), path, free=free)
        except Exception as fault:  # the exporters raise types of their own
            yield f"not exported: {str(fault).strip().splitlines()[0][:90]}"
            return
        try:
            content = read_checkpoint(path, ())
        except ModelError as fault:
            yield f"refused: {fault}"
            return
    module = content.module
    assert module is not None
    leaf = torch.rand(3, 3, size, size, requires_grad=True)
    answer, expected = module(leaf), net(leaf)
    gradient, true = (torch.autograd.grad(out[:, 3].sum(), leaf)[0] for out in (answer, expected))
    yield from (share(answer, expected), share(gradient, true), str(module.largest_batch))
    yield f"{seconds(module, leaf.detach()) / seconds(net, leaf.detach()):.2f}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    print("| net | exporter | batch | logits | gradient | at a time | seconds x |\n|---|---|---|---|---|---|---|")
    for chosen in sys.argv[1:] or NAMES:
        for exporter in (dynamo, script):
            for free in (False, True):
                cells = list(row(chosen, exporter, free=free))
                print(
                    f"| {chosen} | {exporter.__name__} | {'any' if free else '1'} | {' | '.join(cells)} |", flush=True
                )
