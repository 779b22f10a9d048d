"""One net under every runtime: logits, verdicts near the boundary, maps: `python tests/benchmarks/runtimes.py`.

Three zoo nets trained here on the sample. Each is attacked in plain torch (float32, channels first); the images that
broke it, and images bisected to its decision boundary, are then asked of the same net in other runtimes. A row says how
far logits are (as a share of the largest), how many verdicts on images as they are, on adversarial images and on the
boundary differ, and how maps agree (the least rank correlation of eight images): the gradient's where the runtime has
one, and occlusion's. Instruction sets are chosen when torch is loaded, so they are asked in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import audit
from audit.data.load import load_dataset
from audit.models.architecture import build
from audit.models.compression.static_int8 import differentiable_form, quantised_file
from audit.models.formats.onnx_runtime_net import OnnxRuntimeNet
from audit.models.load import read_checkpoint
from tests.benchmarks.onnx_exports import dynamo

ROOT = Path(__file__).parents[2]
Runtime = Callable[[Tensor], Tensor]
NETS = ("cnn-28", "resnet-18-small", "self-attention")
IMAGES = 150
EPS = 0.05
NARROW = {"AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}
"""Sets of instructions, by the variables that limit torch, oneDNN and MKL to them."""


def trained(name: str, taught: int, asked: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A net of the zoo after three epochs on so many images, and so many test images with labels."""
    dataset = load_dataset("sample", train_examples=taught)
    assert dataset.train is not None
    train, test = dataset.train.batch(slice(0, taught)), dataset.test.batch(slice(0, asked))
    torch.manual_seed(0)
    net = build(name, classes=len(dataset.classes), input_shape=dataset.shape, seed=0)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(3):
        for part in torch.randperm(len(train.images)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(train.images[part]), train.labels[part]).backward()
            optimiser.step()
    return net.eval(), test.images, test.labels


def boundary(net: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """The adversarial side of the decision boundary between two images, after bisection to neighbouring numbers."""
    low, high = torch.zeros(len(images)), torch.ones(len(images))
    for _ in range(24):
        middle = (low + high) / 2
        with torch.no_grad():
            wrong = net(torch.lerp(images, adversarial, middle[:, None, None, None])).argmax(1) != labels
        high, low = torch.where(wrong, middle, high), torch.where(wrong, low, middle)
    return torch.lerp(images, adversarial, high[:, None, None, None])


def runtimes(net: nn.Module, images: Tensor, folder: Path) -> Iterator[tuple[str, Callable[[], Runtime]]]:
    """Name and maker of each runtime of a net."""
    yield "torch, channels last", lambda: _channels_last(net)
    yield "torch, one image at a time", lambda: lambda x: torch.cat([net(one[None]) for one in x])
    yield "torch, two threads", lambda: _threads(net, 2)
    yield "torch, float64", lambda: lambda x: _copy(net).double()(x.double())
    if any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()):
        yield "batch norm folded", lambda: _folded(net)
    yield "torch.compile", lambda: torch.compile(_copy(net))
    yield "torch.export", lambda: _exported(net, images)
    yield "ONNX, loaded by audit", lambda: _converted(net, images, folder)
    yield "ONNX, onnxruntime", lambda: _onnxruntime(net, images, folder, optimised=True)
    yield "ONNX, onnxruntime, no rewriting", lambda: _onnxruntime(net, images, folder, optimised=False)
    yield "bfloat16", lambda: _half(net, torch.bfloat16)
    yield "float16", lambda: _half(net, torch.float16)
    yield "bfloat16, autocast", lambda: _autocast(net)
    yield "int8, differentiable", lambda: differentiable_form(_int8(net, images))
    yield "int8, onnxruntime", lambda: OnnxRuntimeNet(_int8(net, images))


def _copy(net: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(net)


def _channels_last(net: nn.Module) -> Runtime:
    twin = _copy(net).to(memory_format=torch.channels_last)
    return lambda x: twin(x.contiguous(memory_format=torch.channels_last))


def _threads(net: nn.Module, count: int) -> Runtime:
    def run(x: Tensor) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return net(x)
        finally:
            torch.set_num_threads(before)

    return run


def _folded(net: nn.Module) -> Runtime:
    from torch.fx.experimental.optimization import fuse

    return fuse(_copy(net))


def _exported(net: nn.Module, images: Tensor) -> Runtime:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(_copy(net), (images[:4],), dynamic_shapes=dynamic).module()


def _file(net: nn.Module, images: Tensor, folder: Path) -> Path:
    path = folder / "net.onnx"
    if not path.exists():
        dynamo(net, images[:4], path, free=True)
    return path


def _converted(net: nn.Module, images: Tensor, folder: Path) -> Runtime:
    module = read_checkpoint(_file(net, images, folder), ()).module
    assert module is not None
    return module.eval()


def _onnxruntime(net: nn.Module, images: Tensor, folder: Path, *, optimised: bool) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(_file(net, images, folder)), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.detach().numpy()})[0])


def _half(net: nn.Module, kind: torch.dtype) -> Runtime:
    twin = _copy(net).to(kind)
    return lambda x: twin(x.to(kind))


def _autocast(net: nn.Module) -> Runtime:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    return run


def _int8(net: nn.Module, images: Tensor) -> bytes:
    shape = (images.shape[1], images.shape[2], images.shape[3])
    with torch.no_grad():
        classes = net(images[:1]).shape[1]
    return quantised_file(audit.wrap(net, classes=classes, input_shape=shape, device="cpu"), images)


def gradient_map(run: Runtime, images: Tensor, targets: Tensor) -> Tensor | None:
    """The target's derivative, None where the runtime has none."""
    leaf = images.clone().requires_grad_(True)
    score = run(leaf).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0] if score.requires_grad else None


def occlusion_map(run: Runtime, images: Tensor, targets: Tensor) -> Tensor:
    """What the target loses where a square of 4x4 pixels is black."""
    drops = []
    with torch.no_grad():
        whole = run(images).gather(1, targets[:, None]).float()
        for row in range(0, images.shape[2], 4):
            for column in range(0, images.shape[3], 4):
                hidden = images.clone()
                hidden[:, :, row : row + 4, column : column + 4] = 0
                drops.append(whole - run(hidden).gather(1, targets[:, None]).float())
    return torch.cat(drops, 1)


def agreement(one: Tensor | None, other: Tensor | None) -> str:
    """The least rank correlation of two sets of maps."""
    if one is None or other is None:
        return "none"
    pairs = zip(one.flatten(1).detach().double().numpy(), other.flatten(1).detach().double().numpy(), strict=True)
    values = [spearmanr(a, b).statistic for a, b in pairs if np.ptp(a) and np.ptp(b)]
    return f"{min(values):.4f}" if values else "flat"


def rows(name: str, taught: int, asked: int, skipped: Sequence[str]) -> Iterator[str]:
    """The table's rows of one net."""
    net, images, labels = trained(name, taught, asked)
    model = audit.wrap(net, classes=10, input_shape=(1, 28, 28), device="cpu")
    outcome = audit.robustness(model, images, labels, audit.ThreatModel("linf", EPS))
    with torch.no_grad():
        logits = net(images)
    broken = ~outcome.robust & (logits.argmax(1) == labels)
    attacked, truth = outcome.adversarial[broken], labels[broken]
    edge = boundary(net, images[broken], attacked, truth)
    few, targets = images[:8], logits[:8].argmax(1)
    maps = gradient_map(net, few, targets), occlusion_map(net, few, targets)
    yield f"| {name} | images: {len(images)} | | {len(images)} | {len(attacked)} | {len(edge)} | | |"
    with tempfile.TemporaryDirectory() as folder:
        for runtime, make in runtimes(net, images, Path(folder)):
            if runtime in skipped:
                continue
            try:
                run = make()
                with torch.no_grad():
                    answers = [run(x).float() for x in (images, attacked, edge)]
                gap = float((answers[0] - logits).abs().max() / logits.abs().max())
                flips = int((answers[0].argmax(1) != logits.argmax(1)).sum())
                carried = [int((answer.argmax(1) == truth).sum()) for answer in answers[1:]]
                other = gradient_map(run, few, targets), occlusion_map(run, few, targets)
                cells = [f"{gap:.0e}", str(flips), *map(str, carried), *map(agreement, maps, other)]
            except Exception as fault:  # a runtime that cannot do this net says so in the table
                cells = [f"{type(fault).__name__}: {str(fault).strip().splitlines()[0][:80]}", "", "", "", "", ""]
            yield f"| {name} | {runtime} | {' | '.join(cells)} |"
    for isa, variables in NARROW.items():
        yield f"| {name} | torch, {isa} | {' | '.join(_in_process(net, images, attacked, edge, truth, variables))} |"


def _in_process(
    net: nn.Module, images: Tensor, attacked: Tensor, edge: Tensor, truth: Tensor, variables: dict[str, str]
) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asked.pt"
        torch.save({"net": net, "asked": (images, attacked, edge)}, path)
        program = (
            "import sys, torch; torch.set_num_threads(1); found = torch.load(sys.argv[1], weights_only=False); "
            "torch.set_grad_enabled(False); torch.save([found['net'](x) for x in found['asked']], sys.argv[1])"
        )
        environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=environment)
        answers = torch.load(path)
    with torch.no_grad():
        logits = net(images)
    yield f"{float((answers[0] - logits).abs().max() / logits.abs().max()):.0e}"
    yield str(int((answers[0].argmax(1) != logits.argmax(1)).sum()))
    yield from (str(int((answer.argmax(1) == truth).sum())) for answer in answers[1:])
    yield from ("", "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("nets", nargs="*", default=NETS)
    parser.add_argument("--images", type=int, default=IMAGES, help="test images asked and attacked")
    parser.add_argument("--skip", nargs="*", default=[], help="runtimes to leave out, by name")
    parser.add_argument("--train-images", type=int, default=3000)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| net | runtime | logits | images | adversarial | boundary | gradient map | occlusion map |")
    print("|---|---|---|---|---|---|---|---|")
    options = parser.parse_args()
    for chosen in options.nets:
        for line in rows(chosen, options.train_images, options.images, options.skip):
            print(line, flush=True)
