"""Problems with answers known by hand, which the attributions solve again on the device at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audit.core.errors import AuditError
from audit.core.note import Note, note
from audit.core.seeding import torch_generator
from audit.core.types import Images
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

EXACT = 1e-4
"""Relative error that float32 on any device may leave."""


@dataclass(frozen=True)
class SelfTestResult:
    """One method's answer to one problem.

    Attributes:
        problem: The name of the problem.
        method: The name of the attribution, with its algorithm where it has several.
        error: The largest difference from the known answer, relative to that answer's largest value; where the
            answer is a place, the share of images on which the map peaks elsewhere.
        bound: What the error must not exceed.
    """

    problem: Note
    method: str
    error: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the method gave the known answer."""
        return self.error <= self.bound


def run_self_test(device: torch.device) -> tuple[SelfTestResult, ...]:
    """Solve every problem: a linear model, games wired by hand, a patch detector; about 20,000 small forwards.

    Args:
        device: Where the models run.
    """
    return (*_linear(device), *_games(device), *_patch(device))


@dataclass(frozen=True)
class LinearProblem:
    """A model whose logits are w.x + b: every method has a known answer on it.

    Attributes:
        model: Three classes, images 8x8 in one channel.
        images: Two of them, float32 (2, 1, 8, 8), on the CPU.
        weight: w by class, float32 (3, 1, 8, 8), on the CPU.
        segments: Eight blocks of eight pixels, int64 (8, 8).
    """

    model: ModelUnderTest
    images: Images
    weight: Tensor
    segments: Tensor


def linear_problem(device: torch.device) -> LinearProblem:
    """The linear model of the self-test, with images.

    Args:
        device: Where the model runs.
    """
    generator = torch_generator("oracles", "linear")
    weight = torch.randn(3, 1, 8, 8, generator=generator, device="cpu")
    images = torch.rand(2, 1, 8, 8, generator=generator, device="cpu")
    layer = nn.Linear(64, 3, device="cpu")
    with torch.no_grad():
        layer.weight.copy_(weight.flatten(1))
        layer.bias.copy_(torch.tensor([0.3, -0.1, 0.2], device="cpu"))
    model = _wrapped(nn.Sequential(nn.Flatten(), layer), ("a", "b", "c"), device)
    return LinearProblem(model, images, weight, _blocks())


def _linear(device: torch.device) -> Iterator[SelfTestResult]:
    """Logits w.x + b: gradient w, path methods w (x - baseline), segments their sums of that."""
    problem = linear_problem(device)
    model, images, weight, blocks = problem.model, problem.images, problem.weight, problem.segments
    moved = weight[1] * (images - 0.25)
    by_segment = torch.stack([segment_sums(image, blocks) for image in moved])
    answers: Sequence[tuple[str, Tensor, float, dict[str, Any]]] = (
        ("saliency", weight[1].expand(2, 1, 8, 8), EXACT, {}),
        ("smooth-grad", weight[1].expand(2, 1, 8, 8), EXACT, {"samples": 8}),
        ("input-x-gradient", weight[1] * images, EXACT, {}),
        ("integrated-gradients", moved, EXACT, {"baseline": 0.25}),
        ("expected-gradients", moved, EXACT, {"baseline": 0.25, "samples": 16}),
        ("deep-lift", moved, EXACT, {"baseline": 0.25}),
        ("occlusion", moved, EXACT, {"baseline": 0.25, "window": 1, "stride": 1}),
        ("shap", by_segment, EXACT, {"baseline": 0.25, "segments": blocks, "algorithm": "exact"}),
        ("shap", by_segment, EXACT, {"baseline": 0.25, "segments": blocks, "algorithm": "kernel", "samples": 256}),
        ("lime", by_segment, 0.05, {"baseline": 0.25, "segments": blocks, "samples": 4000}),
    )
    for method, answer, bound, options in answers:
        maps = _maps(model, images, method, targets=1, **options)
        label = f"{method} ({options['algorithm']})" if "algorithm" in options else method
        yield SelfTestResult(note("linear_model", "linear model"), label, _error(maps, answer), bound)


GAMES: Mapping[Note, tuple[Sequence[Sequence[float]], Sequence[float], Sequence[float], Sequence[float]]] = {
    note("game_both", "game: both of two"): ([[1, 1, 0, 0]], [-1], [1], [0.5, 0.5, 0, 0]),
    note("game_either", "game: either of two"): ([[1, 1, 0, 0], [1, 1, 0, 0]], [0, -1], [1, -1], [0.5, 0.5, 0, 0]),
    note("game_two", "game: two of three"): ([[1, 1, 1, 0], [1, 1, 1, 0]], [-1, -2], [1, -1], [1 / 3, 1 / 3, 1 / 3, 0]),
    note("game_cancelled", "game: cancelled"): ([[1, 1, 0, 0], [0, 1, 0, 0]], [0, 0], [1, -1], [1, 0, 0, 0]),
}
"""Hidden weights, biases and output weights over the means of four quarters, with the quarters' Shapley values."""


@dataclass(frozen=True)
class GameProblem:
    """A net wired by hand over the means of an image's four quarters, whose Shapley values are known.

    Attributes:
        name: What it computes.
        model: Two classes, images 8x8 in one channel; class 1 is explained.
        image: The one image, all white, float32 (1, 1, 8, 8).
        segments: The quarters, int64 (8, 8).
        answer: Their Shapley values against black, float32 (1, 1, 8, 8).
    """

    name: Note
    model: ModelUnderTest
    image: Images
    segments: Tensor
    answer: Tensor


def game_problems(device: torch.device) -> Iterator[GameProblem]:
    """The games of the self-test.

    Args:
        device: Where the models run.
    """
    quarters = torch.arange(8, device="cpu") // 4
    segments = quarters[:, None] * 2 + quarters[None]
    for name, (hidden, bias, output, values) in GAMES.items():
        first, last = nn.Linear(4, len(hidden), device="cpu"), nn.Linear(len(hidden), 2, bias=False, device="cpu")
        with torch.no_grad():
            first.weight.copy_(torch.tensor(hidden, device="cpu"))
            first.bias.copy_(torch.tensor(bias, device="cpu"))
            last.weight.copy_(torch.tensor([[0.0] * len(hidden), list(output)], device="cpu"))
        net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), first, nn.ReLU(), last)
        answer = torch.tensor(values, device="cpu")[segments][None, None]
        image = torch.ones(1, 1, 8, 8, device="cpu")
        yield GameProblem(name, _wrapped(net, ("off", "on"), device), image, segments, answer)


def _games(device: torch.device) -> Iterator[SelfTestResult]:
    for game in game_problems(device):
        maps = _maps(game.model, game.image, "shap", targets=1, baseline=0.0, segments=game.segments)
        yield SelfTestResult(game.name, "shap (exact)", _error(maps, game.answer), EXACT)


class PatchProblem(NamedTuple):
    """A convolution that answers to one 3x3 pattern, and images with the pattern somewhere.

    Attributes:
        model: Two classes, images 8x8 in one channel; class 1 is explained.
        images: Four of them, float32 (4, 1, 8, 8), on the CPU.
        corners: Row and column of each pattern's first pixel.
    """

    model: ModelUnderTest
    images: Images
    corners: tuple[tuple[int, int], ...]


def patch_problem(device: torch.device) -> PatchProblem:
    """The patch detector of the self-test, with images.

    Args:
        device: Where the model runs.
    """
    pattern = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]], device="cpu")
    conv, last = nn.Conv2d(1, 1, 3, padding=1, device="cpu"), nn.Linear(1, 2, bias=False, device="cpu")
    with torch.no_grad():
        conv.weight.copy_(pattern)
        nn.init.constant_(conv.bias, -3.0)  # type: ignore[arg-type]  # a bias was asked for
        last.weight.copy_(torch.tensor([[0.0], [1.0]], device="cpu"))
    model = _wrapped(nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(8), nn.Flatten(), last), ("off", "on"), device)
    corners = ((0, 0), (1, 4), (5, 2), (4, 5))
    images = torch.full((len(corners), 1, 8, 8), 0.3, device="cpu")
    for image, (row, column) in zip(images, corners, strict=True):
        image[0, row : row + 3, column : column + 3] = pattern.clamp(min=0)
    return PatchProblem(model, images, corners)


def _patch(device: torch.device) -> Iterator[SelfTestResult]:
    """A convolution that answers to one 3x3 pattern: maps must peak on it, wherever it stands."""
    model, images, corners = patch_problem(device)
    methods: Sequence[tuple[str, dict[str, Any]]] = (
        ("grad-cam", {}),
        ("grad-cam-plus-plus", {}),
        ("layer-cam", {}),
        ("integrated-gradients", {"baseline": 0.3}),
        ("deep-lift", {"baseline": 0.3}),
        ("occlusion", {"baseline": 0.3, "window": 1, "stride": 1}),
        ("rise", {"baseline": 0.3, "samples": 2000}),
    )
    for method, options in methods:
        maps = _maps(model, images, method, targets=1, **options)
        peaks = maps.sum(1).flatten(1).argmax(1)
        hits = [
            row <= top // 8 <= row + 2 and column <= top % 8 <= column + 2
            for top, (row, column) in zip(peaks.tolist(), corners, strict=True)
        ]
        yield SelfTestResult(note("patch_detector", "patch detector"), method, 1 - sum(hits) / len(hits), 0.0)


def _maps(model: ModelUnderTest, images: Tensor, method: str, **options: Any) -> Tensor:
    names = [f"oracle/{number}" for number in range(len(images))]
    no_maps = torch.full((len(images), 1, *images.shape[2:]), torch.nan, device="cpu")
    try:
        result = explain_images(model, images.to(model.device), method=method, ids=names, **options)
    except AuditError:  # what the method returned is no map of these images: a wrong answer, which the test must show
        return no_maps
    return no_maps if result.attributions is None else result.attributions.cpu()


def _error(maps: Tensor, answer: Tensor) -> float:
    error = float((maps - answer).abs().max() / answer.abs().max())
    return error if error == error else float("inf")


def _wrapped(net: nn.Module, classes: Sequence[str], device: torch.device) -> ModelUnderTest:
    return ModelUnderTest(net, classes=classes, input_shape=(1, 8, 8), device=device)


def _blocks() -> Tensor:
    """Eight segments: two columns of four rows."""
    rows, columns = torch.arange(8, device="cpu") // 2, torch.arange(8, device="cpu") // 4
    return rows[:, None] * 2 + columns[None]


def segment_sums(values: Tensor, segments: Tensor) -> Tensor:
    """A map with each pixel's value replaced by the sum over its segment, (1, H, W).

    Args:
        values: Float (C, H, W), on the CPU.
        segments: int64 (H, W), numbered from 0.
    """
    flat = segments.flatten()
    sums = torch.zeros(int(flat.max()) + 1, device="cpu").scatter_add(0, flat, values.sum(0).flatten())
    return sums[segments][None]
