"""What data health costs and finds: time by number of images, recall by kind of copy, wrong labels counted.

Run: python tests/benchmarks/data_health.py DIR, the folder of Fashion-MNIST's files.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score

from audit.data.dataset import Dataset
from audit.data.health.held_out_scores import held_out_scores
from audit.data.health.label_noise import label_noise
from audit.data.health.near_copies import find_copies
from audit.data.health.signature import Signatures, sign_splits, signatures_of
from audit.data.load import load_dataset

Pixels = NDArray[np.uint8]


def jpeg(image: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def scaled(image: Pixels, side: int) -> Pixels:
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.array(small.resize(image.shape[::-1], Image.Resampling.BILINEAR))


KINDS: dict[str, Callable[[Pixels], Pixels]] = {
    "exact": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "JPEG 30": lambda image: jpeg(image, 30),
    "scaled to 24 and back": lambda image: scaled(image, 24),
    "scaled to 20 and back": lambda image: scaled(image, 20),
    "scaled to 14 and back": lambda image: scaled(image, 14),
    "turned, JPEG 75": lambda image: jpeg(np.ascontiguousarray(np.rot90(image)), 75),
}


def recall(data: Dataset, signatures: Signatures) -> None:
    before = {tuple(pair) for pair in find_copies(signatures).pairs.tolist()}
    print(f"pairs among {len(signatures)} images as they are: {len(before)}")
    assert data.train is not None
    for kind, change in KINDS.items():
        sources = np.random.default_rng(0).permutation(len(data.train))[:200]
        images = data.train.fetch(sources)[:, 0].astype(np.uint8)
        copies = signatures_of(np.stack([np.ascontiguousarray(change(image))[None] for image in images]))
        both = {name: np.concatenate([values, getattr(copies, name)]) for name, values in vars(signatures).items()}
        pairs = {tuple(pair) for pair in find_copies(Signatures(**both)).pairs.tolist()}
        planted = {(int(source), len(signatures) + number) for number, source in enumerate(sources)}
        print(f"| {kind} | {len(pairs & planted) / len(planted):.1%} | {len(pairs - planted - before)} |")


def cost(data: Dataset) -> Signatures:
    assert data.train is not None
    begun = time.process_time()
    signatures = sign_splits([data.train, data.test])
    read = time.process_time()
    find_copies(signatures)
    searched = time.process_time()
    trained = signatures.coefficients[: len(data.train)]
    scores = held_out_scores(trained, data.train.labels, classes=len(data.classes), seed=0)
    label_noise(scores, data.train.labels)
    ended = time.process_time()
    print(
        f"read {read - begun:.1f} s, copies {searched - read:.1f} s, labels {ended - searched:.1f} s of processor time"
    )
    return signatures


def labels(data: Dataset, signatures: Signatures) -> None:
    assert data.train is not None
    count = len(data.train)
    for share in (0.0, 0.01, 0.05, 0.1):
        draw = np.random.default_rng(1)
        wrong = np.zeros(count, np.bool_)
        wrong[draw.permutation(count)[: round(share * count)]] = True
        noisy = np.where(wrong, (data.train.labels + draw.integers(1, 10, count)) % 10, data.train.labels)
        noise = label_noise(held_out_scores(signatures.coefficients[:count], noisy, classes=10, seed=0), noisy)
        precision = average_precision_score(wrong, noise.wrong) if share else float("nan")
        low, high = noise.share.low * count, noise.share.high * count
        print(f"| {wrong.sum()} | {noise.share.estimate * count:.0f} ({low:.0f} to {high:.0f}) | {precision:.3f} |")


if __name__ == "__main__":
    for source in ("sample", f"fashion-mnist:{sys.argv[1]}"):
        data = load_dataset(source)
        signatures = cost(data)
        recall(data, signatures)
        labels(data, signatures)
