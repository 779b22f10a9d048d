"""The features of an image are what the last linear layer is given, whatever the net and however it calls it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError, NotApplicable
from audit.explanation.features import features_and_logits, find_head, head_layer, penultimate_features
from audit.explanation.temperature_fold import with_temperature
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from tests.conftest import linear_net, small_cnn


def wrapped(net: nn.Module, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 4) -> ModelUnderTest:
    return ModelUnderTest(net.eval(), classes=[str(k) for k in range(classes)], input_shape=shape, device="cpu")


def last_linear_input(model: ModelUnderTest, images: Tensor) -> Tensor:
    """The slow twin: a hook on the last `nn.Linear`."""
    layer = [module for module in model.net.modules() if isinstance(module, nn.Linear)][-1]
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model.logits(images)
    hook.remove()
    return torch.cat(inputs)


@pytest.mark.parametrize(
    "name", ["cnn-28", "row-lstm", "self-attention", "resnet-18-small", "timm:vit_tiny_patch16_224"]
)
def test_features_are_the_input_of_the_last_linear_layer(name: str) -> None:
    shape = (3, 224, 224) if "vit" in name else (1, 28, 28)
    model = wrapped(build(name, classes=4, input_shape=shape, seed=0), shape)
    images = torch.rand(3, *shape)
    features = penultimate_features(model, images)
    assert torch.allclose(features, last_linear_input(model, images), atol=1e-5)
    assert find_head(model).scale == pytest.approx(1, abs=1e-4)
    linear = [layer for layer, module in model.net.named_modules() if isinstance(module, nn.Linear)]
    assert head_layer(model) == linear[-1]


class TrainedWithHelp(nn.Module):
    """A second classifier runs after the one that answers, as in nets that were trained with an auxiliary loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.answer, self.help = nn.Flatten(), nn.Linear(64, 4), nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        logits: Tensor = self.answer(features)
        self.seen = self.help(features)
        return logits


def test_the_layer_is_named_by_what_decides_and_not_by_what_runs_last() -> None:
    net = TrainedWithHelp()
    model, images = wrapped(net, (1, 8, 8)), torch.rand(3, 1, 8, 8)
    assert head_layer(model) == "answer"
    cooled = with_temperature(net, model, 2.0, "net.pt")
    torch.testing.assert_close(cooled(images), net(images) / 2)


class Twice(nn.Module):
    """One layer both before and after: dividing its weights would change what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.layer(images.flatten(1)).relu())
        return logits


def test_a_layer_that_makes_other_products_too_has_no_name_to_put_a_temperature_into() -> None:
    model = wrapped(Twice(), (1, 8, 8), 64)
    assert find_head(model).layer == "" and find_head(model).width == 64
    with pytest.raises(ModelError, match="a temperature is put into those"):
        with_temperature(model.net, model, 2.0, "net.pt")


class Called(nn.Module):
    """The last layer is a function over tokens, whose mean is the answer; probabilities come out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(1, 6, 3), nn.Parameter(torch.randn(4, 6))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.conv(images).relu().flatten(2).transpose(1, 2)
        return nn.functional.linear(tokens, self.weight).mean(1).softmax(1)


def test_a_layer_called_as_a_function_at_many_positions_gives_the_mean_over_them() -> None:
    net = Called()
    model, images = wrapped(net, (1, 8, 8)), torch.rand(5, 1, 8, 8)
    expected = net.conv(images).relu().mean((2, 3))
    assert torch.allclose(penultimate_features(model, images), expected, atol=1e-5)


def test_a_convolution_as_last_layer_gives_its_pooled_channels() -> None:
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, images = wrapped(net, (1, 8, 8)), torch.rand(5, 1, 8, 8)
    assert torch.allclose(penultimate_features(model, images), net[:2](images).mean((2, 3)), atol=1e-5)
    assert find_head(model).scale is None


def test_a_linear_model_is_its_own_head_and_a_temperature_is_its_scale() -> None:
    class Cooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net(torch.randn(3, 36), torch.zeros(3))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.net(images) / 2.5

            return logits

    model, images = wrapped(Cooled(), (1, 6, 6), 3), torch.rand(7, 1, 6, 6)
    assert torch.allclose(penultimate_features(model, images), images.flatten(1))
    assert find_head(model).scale == pytest.approx(0.4, rel=1e-3)


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = small_cnn(), small_cnn()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.first(images) + self.second(images.flip(3))
        return logits


def test_two_nets_side_by_side_have_no_head() -> None:
    model, images = wrapped(Ensemble(), (1, 12, 12)), torch.rand(2, 1, 12, 12)
    with pytest.raises(NotApplicable, match="no last linear layer"):
        penultimate_features(model, images)
    assert torch.equal(features_and_logits(model, images).features, model.logits(images))
    assert head_layer(model) == ""


def test_passes_are_counted_and_batches_change_nothing() -> None:
    model, images = wrapped(small_cnn(), (1, 12, 12)), torch.rand(9, 1, 12, 12)
    whole, logits = features_and_logits(model, images)
    assert torch.allclose(logits, model.logits(images), atol=1e-6)
    model.layout.batch_size = 4
    with model.count() as counter:
        parts = penultimate_features(model, images)
    assert counter.forwards == 9 and counter.backwards == 0
    assert torch.allclose(whole, parts, atol=1e-6)
