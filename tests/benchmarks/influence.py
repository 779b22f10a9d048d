"""Whether earlier checkpoints make TracIn over the last layer better: `python tests/benchmarks/influence.py`.

`cnn-28` learns 3,000 images of the sample, one label in twenty of which is wrong, in eight epochs of Adam on one cycle.
TracIn is then computed from the final weights alone, and from those after every second epoch with the learning rates
there (arXiv:2002.08484, section 3.2), each with the features that the net had then.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from audit.core.seeding import derive_seed
from audit.core.types import Labels
from audit.data.load import load_dataset
from audit.explanation.features import features_and_logits, find_head
from audit.metrics.influence import HeadGradients, head_gradients, tracin
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from audit.topics.influence.scores import noisy_copies
from audit.topics.influence.study import _rank_correlation, _refit

COUNT, TESTS, EPOCHS, BATCH, RATE = 3000, 60, 8, 128, 4e-3


def trained(images: Tensor, labels: Labels, classes: int, seed: int) -> list[tuple[nn.Module, float]]:
    """The net after every second epoch, with its learning rate there."""
    net = build("cnn-28", classes=classes, input_shape=(1, 28, 28), seed=seed)
    optimiser, kept = torch.optim.Adam(net.parameters(), RATE), []
    steps = EPOCHS * -(-COUNT // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1)
    draw = torch.Generator().manual_seed(seed)
    for epoch in range(EPOCHS):
        net.train()
        for rows in torch.randperm(COUNT, generator=draw).split(BATCH):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
        if epoch % 2:
            kept.append((copy.deepcopy(net).eval(), float(optimiser.param_groups[0]["lr"])))
    return kept


def trial(seed: int) -> None:
    data = load_dataset("sample")
    assert data.train is not None
    draws = np.random.default_rng(seed)
    rows = draws.permutation(len(data.train))[:COUNT]
    batch, tests = data.train.batch(rows), data.test.batch(draws.permutation(len(data.test))[:TESTS])
    wrong = np.zeros(COUNT, bool)
    wrong[draws.permutation(COUNT)[: COUNT // 20]] = True
    shift = torch.from_numpy(np.where(wrong, draws.integers(1, 10, COUNT), 0))
    labels = (batch.labels + shift) % 10
    random = labels[torch.from_numpy(np.random.default_rng(derive_seed("labels", seed)).permutation(COUNT))]
    kept = trained(batch.images, labels, 10, seed)
    wrapped = [ModelUnderTest(net, classes=data.classes, input_shape=(1, 28, 28), device="cpu") for net, _ in kept]
    final = wrapped[-1]
    answers = final.predictions(tests.images)
    print(f"seed {seed}: accuracy {float((answers == tests.labels).double().mean()):.2f} of {TESTS}")
    copies = noisy_copies(tests.images, seed)
    began = time.process_time()
    seen = [
        [features_and_logits(model, images) for images in (tests.images, batch.images, copies)] for model in wrapped
    ]
    seconds = (time.process_time() - began) / len(wrapped)
    scales = [find_head(model).scale or 1.0 for model in wrapped]

    def gradients(part: int, targets: Labels) -> list[HeadGradients]:
        return [
            head_gradients(at[part].features, at[part].logits, targets, scale)
            for at, scale in zip(seen, scales, strict=True)
        ]

    asked, copied = gradients(0, answers), gradients(2, answers)
    given, drawn = gradients(1, labels), gradients(1, random)
    for name, chosen, rates in (
        ("final weights", slice(-1, None), [1.0]),
        ("four checkpoints", slice(None), [rate for _, rate in kept]),
        ("four, equal rates", slice(None), [1.0] * len(kept)),
    ):
        scores = tracin(asked[chosen], given[chosen], rates, relative=True)
        own = tracin(asked[chosen], copied[chosen], rates, relative=True).diagonal()
        shuffled = tracin(asked[chosen], drawn[chosen], rates, relative=True)
        squares = sum(rate * each.squares for rate, each in zip(rates, given[chosen], strict=True))
        drop, control = _refit(seen[-1][0], seen[-1][1], labels, answers, scores, 20, seed)
        print(
            f"| {name} | {int((own > scores.amax(1)).sum())} of {TESTS} | {_rank_correlation(scores, shuffled):+.2f} "
            f"| {np.nanmean(drop):.3f} / {np.nanmean(control):.3f} "
            f"| {average_precision_score(wrong, np.asarray(squares)):.3f} |",
            flush=True,
        )
    size = sum(values.numel() * values.element_size() for values in kept[0][0].state_dict().values())
    print(f"  {seconds:.1f} s of processor time and {size / 1e6:.1f} MB a checkpoint")


if __name__ == "__main__":
    print("| weights | copies first | agreement with random labels | nats lost / control | wrong labels, AP |")
    for number in range(3):
        trial(number)
