"""What is asked in each environment of the version matrix.

`python -m tests.benchmarks.version_probes SUBJECT ANSWERS [GROUP ...]`. Each probe gives arrays by name; what it raises
is kept as its answer. Names are GROUP/PROBE/ARRAY.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import audit
from audit.core.registry import find, methods
from audit.core.seeding import content_ids
from audit.data.load import load_dataset
from audit.models.compression.static_int8 import differentiable_form, quantised_file
from audit.models.formats.onnx_runtime_net import OnnxRuntimeNet
from audit.models.load import read_checkpoint
from audit.models.under_test import ModelUnderTest
from audit.models.zoo.convolutional import cnn_28
from audit.topics.corruptions.study import corrupted
from tests.benchmarks.version_libraries import LIBRARY_PROBES
from tests.benchmarks.version_subject import Clamped

Answers = Mapping[str, Any]
Probe = Callable[[], Answers]
PACKAGES = (
    *("torch", "torchvision", "captum", "shap", "lime", "foolbox", "transformers", "timm", "onnx", "onnxruntime"),
    *("numpy", "scipy", "scikit-image", "scikit-learn", "pillow"),
)
BATCH = 64
EPS = {"linf": (0.02, 0.1), "l2": (0.5, 1.5)}


class Subject:
    """The stored net, its clamped twin, and the images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = torch.from_numpy(np.load(folder / "images.npy"))
        self.labels = torch.from_numpy(np.load(folder / "labels.npy"))
        self.net = cnn_28(10, (1, 28, 28))
        self.net.load_state_dict(load_file(folder / "net.safetensors"))
        self.net.eval()

    def model(self, *, clamped: bool = False, module: nn.Module | None = None) -> ModelUnderTest:
        net = module or (Clamped(self.net).eval() if clamped else self.net)
        net.largest_batch = BATCH  # type: ignore[assignment]  # the same batches everywhere: the fastest are found by the clock
        return audit.wrap(net, classes=10, input_shape=(1, 28, 28), device="cpu")


def audits(subject: Subject) -> Iterator[tuple[str, Probe]]:
    """Logits, verdicts and distances of the product, plain and clamped."""
    for name in ("plain", "clamped"):
        model = subject.model(clamped=name == "clamped")
        yield f"logits/{name}", lambda model=model: {"logits": model.logits(subject.images)}
        for norm, eps in EPS.items():
            yield f"quick-{norm}/{name}", lambda model=model, norm=norm, eps=eps: _curve(subject, model, norm, eps)
    model = subject.model()
    for attack in ("apgd-t", "square", "ddn", "fmn"):
        yield f"{attack}/plain", lambda attack=attack: _curve(subject, model, "l2", EPS["l2"], attacks=[attack])


def _curve(subject: Subject, model: ModelUnderTest, norm: Any, eps: Any, **options: Any) -> Answers:
    options = options or {"battery": "quick"}
    answer = audit.robustness_curve(model, subject.images, subject.labels, norm, eps, **options)
    return {"robust": answer.robust, "distance": answer.minimal_eps, "notes": " ".join(answer.inconclusive)}


def maps(subject: Subject) -> Iterator[tuple[str, Probe]]:
    """Every attribution of four images."""
    model = subject.model()
    for method in methods("attribution"):
        yield method.name, lambda method=method: _maps(subject, model, method.name)


def _maps(subject: Subject, model: ModelUnderTest, method: str) -> Answers:
    answer = audit.explain(model, subject.images[:4], method=method, references=subject.images[8:16], targets=3)
    return {"map": answer.attributions, "reason": str(answer.reason)}


def corruptions(subject: Subject) -> Iterator[tuple[str, Probe]]:
    """Every corruption at severity 3."""
    model, images = subject.model(), subject.images[:4]
    for method in methods("corruption"):
        yield (
            method.name,
            lambda method=method: {
                "images": corrupted(find("corruption", method.name), model.device, content_ids(images), images, 3, 0)
            },
        )


def files(subject: Subject) -> Iterator[tuple[str, Probe]]:
    """State dicts, int8, ONNX and pictures."""
    yield "pt", lambda: dict(read_checkpoint(subject.folder / "net.pt", ()).state or {})
    yield "int8/differentiable", lambda: {"logits": differentiable_form(_int8(subject))(subject.images)}
    yield "int8/kernels", lambda: {"logits": OnnxRuntimeNet(_int8(subject))(subject.images)}
    for path in sorted(subject.folder.glob("*.onnx")):
        yield f"onnx/{path.stem}", lambda path=path: _onnx(subject, path)
        yield f"onnxruntime/{path.stem}", lambda path=path: _onnxruntime(subject, path)
    for filter_name in (None, "bicubic"):
        yield f"pictures/{filter_name}", lambda name=filter_name: _pictures(subject, name)


def _int8(subject: Subject) -> bytes:
    return quantised_file(subject.model(), subject.images)


def _onnx(subject: Subject, path: Path) -> Answers:
    module = read_checkpoint(path, ()).module
    assert module is not None
    leaf = subject.images.clone().requires_grad_(True)
    logits = module(leaf)
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), leaf)
    return {"logits": logits, "gradient": gradient}


def _onnxruntime(subject: Subject, path: Path) -> Answers:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {"logits": session.run(None, {session.get_inputs()[0].name: subject.images.numpy()})[0]}


def _pictures(subject: Subject, interpolation: Any) -> Answers:
    dataset = load_dataset(f"folder:{subject.folder / 'pictures'}", image_size=64, interpolation=interpolation)
    return {"images": dataset.test.batch(slice(0, 6)).images}


def answered(probe: Probe) -> dict[str, NDArray[Any]]:
    """The arrays of a probe, or what it raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            np.random.seed(0)
            return {name: _array(value) for name, value in probe().items() if value is not None}
    except Exception as fault:
        return {"raised": np.array(f"{type(fault).__name__}: {str(fault).strip()[:200]}")}


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().float() if value.dtype == torch.bfloat16 else value.detach().cpu()
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"an answer of type {type(value).__name__}")
    return array


def main() -> None:
    torch.set_num_threads(1)
    subject = Subject(Path(sys.argv[1]))
    answers: dict[str, NDArray[Any]] = {}
    for package in PACKAGES:
        try:
            answers[f"version/{package}"] = np.array(version(package))
        except PackageNotFoundError:
            answers[f"version/{package}"] = np.array("absent")
    groups = {"audit": audits, "map": maps, "corruption": corruptions, "file": files, **LIBRARY_PROBES}
    asked = sys.argv[3:] or groups
    for group, probes in groups.items():
        if group not in asked:
            continue
        begun = time.process_time()
        for name, probe in probes(subject):
            answers |= {f"{group}/{name}/{key}": array for key, array in answered(probe).items()}
        print(f"  {group}: {time.process_time() - begun:.0f} s", flush=True)
    np.savez_compressed(sys.argv[2], **answers)


if __name__ == "__main__":
    main()
