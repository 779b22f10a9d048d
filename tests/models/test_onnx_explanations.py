"""A converted ONNX file is explained and trained as the net that was exported: the same maps, the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.attributions.cam import grad_cam
from audit.attributions.deep_lift import deep_lift
from audit.attributions.guided_backprop import guided_backprop
from audit.attributions.lrp import lrp
from audit.attributions.saliency import saliency
from audit.core.seeding import Generators
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest
from tests.models.onnx_models import head, module_of, node, pictures, weights, write

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

METHODS = (lrp, deep_lift, grad_cam, guided_backprop, saliency)
CLASSES = tuple("abcde")
EVERY = slice(None)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.dense = nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = nn.functional.max_pool2d(torch.relu(x + self.branch(x)), 2)
        return self.dense(x.view(x.size(0), -1))  # type: ignore[no-any-return]


def net() -> nn.Module:
    torch.manual_seed(0)
    made = Residual().eval()
    with torch.no_grad():
        made.stem[1].running_mean.uniform_(-0.1, 0.1)
        made.stem[1].running_var.uniform_(0.5, 1.5)
    return made


def wrapped(module: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(module, classes=CLASSES, input_shape=(3, 8, 8), device="cpu")


def maps(method: Callable[..., Attribution], module: nn.Module, rows: slice = EVERY) -> Tensor:
    images, targets = pictures()[rows], torch.tensor([0, 3, 4])[rows]
    generators = Generators.of("abc"[rows], seed=0, purpose="maps", device="cpu")
    spec = ExplanationSpec(targets, "logit", torch.zeros_like(images), generators)
    return method(wrapped(module), images, spec).attributions


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "do_constant_folding": False}
    torch.onnx.export(net(), (pictures(1),), str(path), dynamo=False, training=torch.onnx.TrainingMode.EVAL, **options)
    return path


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_maps_of_a_converted_file_are_those_of_the_exported_net(
    method: Callable[..., Attribution], exported: Path
) -> None:
    converted, original = maps(method, module_of(exported)), maps(method, net())
    assert original.abs().sum() > 0
    assert torch.allclose(converted, original, atol=1e-5 * float(original.abs().max()))


def test_what_trains_in_the_exported_net_trains_in_the_converted_one(exported: Path) -> None:
    converted, original = module_of(exported), net()
    count = sum(parameter.numel() for parameter in original.parameters())
    folded = 2 * 6  # the exporter folds the normalisation into its convolution
    assert sum(p.numel() for p in converted.parameters() if p.requires_grad) in (count, count - folded)
    module = converted.train()
    loss = nn.functional.cross_entropy(module(pictures()), torch.tensor([0, 1, 2]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_class_activation_map_of_a_file_that_takes_one_image_at_a_time_is_that_of_each_image(tmp_path: Path) -> None:
    end, dense = head("g")
    nodes = [
        node("Conv", "x kernel", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "f"),
        node("Reshape", "f row", "r"),
        node("Gather", "r places", "a"),
        node("Reshape", "a sizes", "g"),
        *end,
    ]
    constants = {
        "kernel": weights(1, 4, 3, 3, 3),
        "row": np.array([-1], np.int64),
        "places": np.arange(256)[::-1].copy().reshape(4, 64),
        "sizes": np.array([1, 4, 8, 8], np.int64),
    }
    path = write(tmp_path / "net.onnx", nodes, {**dense, **constants}, shape=(1, 3, 8, 8), outputs={"y": (1, (1, 5))})
    module = module_of(path)
    assert module.largest_batch == 1
    together = maps(grad_cam, module)
    alone = [maps(grad_cam, module, slice(i, i + 1)) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
