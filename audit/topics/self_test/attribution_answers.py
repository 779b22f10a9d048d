"""Answers of captum, shap and lime to problems of the self-test, beside our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.core.errors import AuditError
from audit.core.note import Note, note
from audit.explanation.captum_guard import restored
from audit.explanation.run import explain_images
from audit.explanation.self_test import (
    EXACT,
    PatchProblem,
    game_problems,
    linear_problem,
    patch_problem,
    segment_sums,
)
from audit.explanation.shap_package import fixed_numpy_state, shap_library
from audit.models.under_test import ModelUnderTest
from audit.topics.self_test.package_comparison import OTHER_CODE, SAME_CODE, PackageAnswer

_LINEAR = note("linear_model", "linear model")
_PATCH = note("patch_detector", "patch detector")
_GAMES = note("games", "games of four quarters")
_STEPS = note(
    "other_steps", "other points on the path: captum takes 50 fixed ones, audit as many as completeness takes"
)
_DRAWS = note("other_draws", "other random masks: the difference is the sampling error of 1,000 masks")
_BASELINE = 0.25


def captum_answers(device: torch.device) -> Iterator[PackageAnswer]:
    """Gradients, paths and occlusion on the linear model, where all are known; paths and Grad-CAM on the detector.

    Args:
        device: Where the models run.
    """
    from captum import attr

    problem = linear_problem(device)
    model, images = problem.model, problem.images.to(device)
    weight = problem.weight[1].expand(2, 1, 8, 8)
    moved = weight * (problem.images - _BASELINE)
    ours, path = {"baseline": _BASELINE}, {"baselines": _BASELINE}
    one = {"sliding_window_shapes": (1, 1, 1), "strides": (1, 1, 1)}
    on_linear: Sequence[tuple[str, str, Tensor, Mapping[str, Any], Mapping[str, Any], Note]] = (
        ("saliency", "Saliency", weight, {}, {"abs": False}, SAME_CODE),
        ("input-x-gradient", "InputXGradient", weight * problem.images, {}, {}, SAME_CODE),
        ("integrated-gradients", "IntegratedGradients", moved, ours, path, OTHER_CODE),
        ("deep-lift", "DeepLift", moved, ours, path, OTHER_CODE),
        ("occlusion", "Occlusion", moved, ours | {"window": 1, "stride": 1}, path | one, OTHER_CODE),
    )
    for method, call, known, settings, options, why in on_linear:
        with restored(model):
            theirs = getattr(attr, call)(model.module).attribute(_leaf(images), target=1, **options)
        yield PackageAnswer(
            _LINEAR, method, call, _ours(model, images, method, **settings), _plain(theirs), known, EXACT, why
        )
    yield from _on_the_detector(attr, patch_problem(device), device)


def _on_the_detector(attr: Any, problem: PatchProblem, device: torch.device) -> Iterator[PackageAnswer]:
    model, images = problem.model, problem.images.to(device)
    for method, call, bound, why in (
        ("integrated-gradients", "IntegratedGradients", 0.05, _STEPS),
        ("deep-lift", "DeepLift", EXACT, OTHER_CODE),
    ):
        with restored(model):
            theirs = getattr(attr, call)(model.module).attribute(_leaf(images), target=1, baselines=0.3)
        yield PackageAnswer(
            _PATCH, method, call, _ours(model, images, method, baseline=0.3), _plain(theirs), None, bound, why
        )
    with restored(model):
        layer = next(part for part in model.module.modules() if isinstance(part, torch.nn.Conv2d))
        theirs = attr.LayerGradCam(model.module, layer).attribute(_leaf(images), target=1, relu_attributions=True)
    yield PackageAnswer(
        _PATCH, "grad-cam", "LayerGradCam", _ours(model, images, "grad-cam"), _plain(theirs), None, EXACT, SAME_CODE
    )


def shap_answers(device: torch.device) -> Iterator[PackageAnswer]:
    """Shapley values by every mask, on the linear model and on the games; deep and gradient explainers on the former.

    Args:
        device: Where the models run.
    """
    problem = linear_problem(device)
    model, images = problem.model, problem.images.to(device)
    moved = problem.weight[1] * (problem.images - _BASELINE)
    by_segment = torch.stack([segment_sums(image, problem.segments) for image in moved])
    options = {"baseline": _BASELINE, "segments": problem.segments, "algorithm": "exact"}
    first, second = (_ours(model, images, "shap", engine=engine, **options) for engine in ("audit", "package"))
    yield PackageAnswer(_LINEAR, "shap (exact)", "KernelExplainer", first, second, by_segment, EXACT, OTHER_CODE)
    games = list(game_problems(device))
    answers = [
        torch.cat(
            [
                _ours(
                    game.model,
                    game.image.to(device),
                    "shap",
                    baseline=0.0,
                    segments=game.segments,
                    algorithm="exact",
                    engine=engine,
                )
                for game in games
            ]
        )
        for engine in ("audit", "package")
    ]
    known = torch.cat([game.answer for game in games])
    yield PackageAnswer(_GAMES, "shap (exact)", "KernelExplainer", answers[0], answers[1], known, EXACT, OTHER_CODE)
    library, background = shap_library(), torch.full((4, 1, 8, 8), _BASELINE, device=device)
    with fixed_numpy_state(0), restored(model):
        gradient = library.GradientExplainer(model.module, background).shap_values(images, nsamples=16)
        deep = library.DeepExplainer(model.module, background).shap_values(images, check_additivity=False)
    ours = _ours(model, images, "expected-gradients", baseline=_BASELINE, samples=16)
    yield PackageAnswer(
        _LINEAR, "expected-gradients", "GradientExplainer", ours, _of_class(gradient), moved, EXACT, OTHER_CODE
    )
    ours = _ours(model, images, "deep-shap", baseline=_BASELINE)
    yield PackageAnswer(_LINEAR, "deep-shap", "DeepExplainer", ours, _of_class(deep), moved, EXACT, OTHER_CODE)


def lime_answers(device: torch.device) -> Iterator[PackageAnswer]:
    """The package on the linear model, with the masks that we draw alike, and with draws of its own.

    Args:
        device: Where the models run.
    """
    problem = linear_problem(device)
    model, images = problem.model, problem.images.to(device)
    moved = problem.weight[1] * (problem.images - _BASELINE)
    known = torch.stack([segment_sums(image, problem.segments) for image in moved])
    options = {"baseline": _BASELINE, "segments": problem.segments, "samples": 1000}
    theirs = _ours(model, images, "lime", engine="package", replay=0, **options)
    same = _ours(model, images, "lime", replay=0, **options)
    yield PackageAnswer(_LINEAR, "lime (its masks)", "LimeImageExplainer", same, theirs, known, EXACT, OTHER_CODE)
    drawn = _ours(model, images, "lime", **options)
    yield PackageAnswer(_LINEAR, "lime (our masks)", "LimeImageExplainer", drawn, theirs, known, 0.1, _DRAWS)


def _ours(model: ModelUnderTest, images: Tensor, method: str, **options: Any) -> Tensor:
    names = [f"oracle/{number}" for number in range(len(images))]
    result = explain_images(model, images, method=method, targets=1, ids=names, **options)
    if result.attributions is None:
        raise AuditError(f"{method} does not apply to a problem of the self-test: {result.reason}")
    return _plain(result.attributions)


def _leaf(images: Tensor) -> Tensor:
    return images.clone().requires_grad_()


def _plain(maps: Tensor) -> Tensor:
    return maps.detach().to("cpu", torch.float64)


def _of_class(values: Any) -> Tensor:
    """Class 1 of what shap gives: (N, C, H, W, classes)."""
    return torch.as_tensor(values)[..., 1].double()
