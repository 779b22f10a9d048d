"""LIME and SHAP by the packages themselves: any attribution's contract, and our own answer where both are exact."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.registry import find
from audit.explanation.mask_reuse import evaluates_every_mask
from audit.explanation.run import AttributionResult, explain_images
from audit.models.under_test import ModelUnderTest

ENGINES = [
    ("lime", {"samples": 80}),
    ("shap", {"algorithm": "exact"}),
    ("shap", {"algorithm": "kernel", "samples": 90}),
]
NAMES = ["lime", "shap-exact", "shap-kernel"]


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 64, 4)
        ).train()


@pytest.fixture(scope="module")
def model(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net, classes="abcd", input_shape=(3, 10, 10), device="cpu")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(8))


def segments(count: int = 9) -> Tensor:
    return (torch.arange(100).view(10, 10) * count) // 100


def ask(
    model: ModelUnderTest,
    images: Tensor,
    method: str,
    settings: dict[str, object],
    engine: str = "package",
    seed: int = 0,
) -> AttributionResult:
    return explain_images(
        model, images, method=method, targets=2, segments=segments(), seed=seed, engine=engine, **settings
    )


def maps(result: AttributionResult) -> Tensor:
    assert result.attributions is not None
    return result.attributions


@pytest.mark.parametrize(("method", "settings"), ENGINES, ids=NAMES)
def test_an_image_is_explained_alike_alone_and_in_a_batch_and_every_time(
    method: str, settings: dict[str, object], model: ModelUnderTest, images: Tensor
) -> None:
    np.random.seed(1)
    together = maps(ask(model, images, method, settings))
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    assert torch.equal(together, maps(ask(model, images, method, settings)))
    assert np.array_equal(state, np.random.get_state()[1])
    alone = maps(ask(model, images[1:2], method, settings))
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(("method", "settings"), [ENGINES[0], ENGINES[2]], ids=["lime", "shap-kernel"])
def test_another_seed_draws_other_masks(
    method: str, settings: dict[str, object], model: ModelUnderTest, images: Tensor
) -> None:
    assert not torch.allclose(
        maps(ask(model, images, method, settings)), maps(ask(model, images, method, settings, seed=1)), atol=1e-6
    )


@pytest.mark.parametrize(("method", "settings"), ENGINES, ids=NAMES)
def test_passes_are_counted_and_stay_within_what_is_declared(
    method: str, settings: dict[str, object], model: ModelUnderTest, images: Tensor
) -> None:
    result = ask(model, images, method, settings)
    registered = find("attribution", method)
    most = registered.max_passes(registered.settings(settings | {"engine": "package"}), model.input_shape)
    assert most is not None and 0 < result.passes.forwards <= 3 * most.forwards and result.passes.backwards == 0
    if method == "lime":
        assert result.passes.forwards == 3 * 80


@pytest.mark.parametrize(("method", "settings"), ENGINES, ids=NAMES)
def test_the_model_is_left_as_found_and_nothing_is_printed(
    method: str, settings: dict[str, object], net: nn.Module, model: ModelUnderTest, images: Tensor
) -> None:
    before = [value.clone() for value in net.state_dict().values()]
    with redirect_stderr(io.StringIO()) as printed:
        ask(model, images[:1], method, settings)
    assert printed.getvalue() == "" and net.training
    assert all(torch.equal(value, old) for value, old in zip(net.state_dict().values(), before, strict=True))


def test_lime_is_the_packages_to_rounding_on_the_same_masks(model: ModelUnderTest, images: Tensor) -> None:
    """Any baseline and any output: the package is handed both."""
    for baseline, features in ((0.3, None), ("blur", 4), ("segment-mean", 8)):
        ours, theirs = (
            explain_images(
                model,
                images,
                method="lime",
                targets=1,
                baseline=baseline,
                segments=segments(),
                samples=150,
                features=features,
                replay=7,
                engine=engine,
            )
            for engine in ("audit", "package")
        )
        assert maps(ours).abs().max() > 1e-3
        assert torch.allclose(maps(ours), maps(theirs), rtol=1e-4, atol=1e-6)
        for name in ("r2", "intercept", "local_output"):
            assert torch.allclose(ours.quality[name].double(), theirs.quality[name].double(), atol=1e-4)


def test_lime_explains_grey_pictures(images: Tensor) -> None:
    grey = ModelUnderTest(nn.Sequential(nn.Flatten(), nn.Linear(100, 2)), classes="ab", input_shape=(1, 10, 10))
    ours, theirs = (
        explain_images(
            grey, images[:, :1], method="lime", targets=1, segments=segments(), samples=80, replay=3, engine=engine
        )
        for engine in ("audit", "package")
    )
    assert torch.allclose(maps(ours), maps(theirs), rtol=1e-4, atol=1e-6)


def test_shap_is_exact_on_every_mask_and_near_it_on_some(model: ModelUnderTest, images: Tensor) -> None:
    exact = maps(ask(model, images, "shap", {"algorithm": "exact"}, engine="audit"))
    theirs = ask(model, images, "shap", {"algorithm": "exact"})
    assert torch.allclose(exact, maps(theirs), atol=1e-5) and theirs.quality["efficiency_residual"].max() < 1e-5
    sampled = ask(model, images, "shap", {"algorithm": "kernel", "samples": 300})
    assert 1e-6 < (maps(sampled) - exact).abs().max() < 0.3 * exact.abs().max()
    assert "standard_error" not in {*sampled.quality, *sampled.maps, *theirs.quality}


def test_masks_of_the_package_are_not_promised_to_others() -> None:
    method = find("attribution", "shap")
    assert evaluates_every_mask(method.settings(), (1, 12, 12))
    assert not evaluates_every_mask(method.settings({"engine": "package"}), (1, 12, 12))
