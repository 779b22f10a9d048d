"""Gradients and forwards in the folded form of a net as a share of its own: CPU seconds of one thread, in turn.

python tests/benchmarks/folding.py --nets mobilenet_v2 resnet18 --rounds 5
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torchvision

from audit.models.losses import margin
from audit.models.search_form import folded_form
from audit.models.under_test import ModelUnderTest


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--nets", nargs="+", default=["mobilenet_v2", "resnet18"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    shape = (3, given.size, given.size)
    images, goal = torch.rand(given.images, *shape), torch.ones(given.images, 10, dtype=torch.bool)
    goal[:, 0] = False
    print("| net | gradients x | forwards x |\n|---|---|---|")
    for name in given.nets:
        net = getattr(torchvision.models, name)(num_classes=10)
        model = ModelUnderTest(net, classes=tuple("abcdefghij"), input_shape=shape, device="cpu")
        form = folded_form(model)
        if form is None:
            print(f"| {name} | nothing to fold | |")
            continue
        pairs = [
            [seconds(lambda m=m: m.loss_gradient(images, goal, margin)) for m in (model, form)]  # type: ignore[misc]
            + [seconds(lambda m=m: m.logits(images)) for m in (model, form)]  # type: ignore[misc]
            for _ in range(given.rounds)
        ]
        best = [min(column) for column in zip(*pairs, strict=True)]
        print(f"| {name} | {best[1] / best[0]:.2f} | {best[3] / best[2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
