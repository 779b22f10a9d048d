"""The nets that benchmarks attack: Fashion-MNIST CNNs, one trained plainly, one on single-step adversarial examples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.models.under_test import ModelUnderTest
from audit.models.zoo.convolutional import cnn_28


def subjects(source: str, images: int, *, train_examples: int, epochs: int) -> tuple[dict[str, nn.Module], Batch]:
    """The two nets, trained the same way every time, and the first `images` test examples."""
    dataset = load_dataset(source, train_examples=train_examples)
    if dataset.train is None:
        raise SystemExit(f"{source} has no training part to train the benchmark's nets on.")
    train = dataset.train.batch(slice(0, len(dataset.train)))
    nets = {
        name: _trained(train, len(dataset.classes), dataset.shape, epochs, eps)
        for name, eps in (("standard", 0.0), ("adversarially trained", 0.1))
    }
    return nets, dataset.test.batch(slice(0, images))


def under_test(module: nn.Module, batch: Batch) -> ModelUnderTest:
    """The net as the suite sees it, on the CPU."""
    channels, height, width = batch.images.shape[1:]
    classes = int(batch.labels.max()) + 1
    return ModelUnderTest(
        module, classes=tuple(map(str, range(classes))), input_shape=(channels, height, width), device="cpu"
    )


def _trained(train: Batch, classes: int, shape: tuple[int, int, int], epochs: int, eps: float) -> nn.Module:
    torch.manual_seed(0)
    net = cnn_28(classes, shape)
    steps = epochs * (len(train) // 128)
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for part in torch.randperm(len(train))[: len(train) // 128 * 128].split(128):
            images, labels = train.images[part], train.labels[part]
            if eps:
                images = _single_step(net, images, labels, eps)
            optimiser.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def _single_step(net: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    start = (images + (torch.rand_like(images) * 2 - 1) * eps).clamp(0, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(start), labels), start)
    moved = start.detach() + 1.25 * eps * gradient.sign()
    return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp(0, 1)
