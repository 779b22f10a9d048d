"""Batch norm folded into the layer before it: the same function, the user's model untouched, nothing folded wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from audit.adversarial.run_battery import run_battery
from audit.core.types import Batch
from audit.models import autotune
from audit.models.architecture import ZOO, build
from audit.models.batching import ExecutionLayout
from audit.models.folding import folded_copy
from audit.models.losses import margin
from audit.models.search_form import folded_form, search_form
from audit.models.under_test import ModelUnderTest

TORCHVISION = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "densenet121",
]
LEFT = {"densenet121": 62}
"""Batch norms that stay: those of densenet before a convolution stand behind a concatenation."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))


def trained(net: nn.Module, seed: int = 3) -> nn.Module:
    """The net in eval mode, its batch norms with statistics and weights as training leaves them."""
    draw = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, like: Tensor) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=draw).to(like)

    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.copy_(between(-0.5, 0.5, layer.running_mean))
                layer.running_var.copy_(between(0.5, 2, layer.running_var))
                if layer.affine:
                    layer.weight.copy_(between(0.5, 1.5, layer.weight))
                    layer.bias.copy_(between(-0.5, 0.5, layer.bias))
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(layer, _BatchNorm) for layer in net.modules())


def answers(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and the gradient of their weighted sum, computed in float64."""
    leaf = images.double().requires_grad_(True)
    outputs: Tensor = net(leaf)
    weights = torch.linspace(-1, 1, outputs.shape[1], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((outputs * weights).sum(), leaf)
    return outputs.detach(), gradient


def assert_same_function(net: nn.Module, folded: nn.Module, images: Tensor, tolerance: float = 1e-5) -> None:
    for expected, given in zip(answers(net.double(), images), answers(folded.double(), images), strict=True):
        torch.testing.assert_close(given, expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    net.float()


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_net_of_torchvision_answers_alike_with_folded_batch_norm(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = trained(getattr(torchvision.models, name)(num_classes=7))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    folded = folded_copy(net, images)
    assert folded is not None
    assert norms(folded) == LEFT.get(name, 0) < norms(net)
    assert_same_function(net, folded, images)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_net_of_the_zoo_is_folded_where_it_has_batch_norm(name: str) -> None:
    net = trained(build(name, classes=5, input_shape=(1, 24, 24), seed=0))
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    folded = folded_copy(net, images)
    assert (folded is not None) == (norms(net) > 0)
    if folded is not None:
        assert norms(folded) == 0
        assert_same_function(net, folded, images)


class Chain(nn.Module):
    """A convolution and a batch norm, joined by a function of the two."""

    def __init__(self, join: Callable[[nn.Module, nn.Module, Tensor], Tensor], conv: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False) if conv is None else conv
        self.norm = nn.BatchNorm2d(3)
        self.join = join

    def forward(self, images: Tensor) -> Tensor:
        return self.join(self.conv, self.norm, images).flatten(2).mean(2)


def plain(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return norm(conv(images)).relu()  # type: ignore[no-any-return]


def read_twice(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    made = conv(images)
    return norm(made) + 0.1 * made  # type: ignore[no-any-return]


def run_twice(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return norm(conv(conv(images)))  # type: ignore[no-any-return]


def norm_first(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return conv(norm(images))  # type: ignore[no-any-return]


def changed_between(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return norm(conv(images).mul_(2))  # type: ignore[no-any-return]


def weights_read(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return norm(conv(images)) + conv.weight.square().sum()  # type: ignore[no-any-return, operator]


def norm_twice(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
    return norm(norm(conv(images)))  # type: ignore[no-any-return]


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))


def chain(join: Callable[[nn.Module, nn.Module, Tensor], Tensor], conv: nn.Module | None = None) -> Chain:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = Chain(join, conv)
    trained(made)
    return made


def test_a_convolution_and_its_batch_norm_become_one() -> None:
    net = chain(plain)
    folded = folded_copy(net, IMAGES)
    assert folded is not None and norms(folded) == 0
    assert_same_function(net, folded, IMAGES)


@pytest.mark.parametrize("join", [read_twice, run_twice, norm_first, changed_between, weights_read, norm_twice])
def test_what_another_operation_depends_on_is_not_folded(join: Callable[..., Tensor]) -> None:
    assert folded_copy(chain(join), IMAGES) is None


def test_a_computed_weight_is_not_folded() -> None:
    assert folded_copy(chain(plain, weight_norm(nn.Conv2d(3, 3, 3, padding=1))), IMAGES) is None


def test_weights_that_two_layers_share_are_not_folded() -> None:
    net = chain(lambda conv, norm, images: norm(conv(images)))
    net.add_module("other", nn.Conv2d(3, 3, 3, padding=1))
    net.other.weight = net.conv.weight  # type: ignore[union-attr]
    assert folded_copy(net, IMAGES) is None


def test_a_layer_with_a_hook_is_not_folded() -> None:
    net = chain(plain)
    net.norm.register_forward_hook(lambda layer, inputs, output: output * 2)
    assert folded_copy(net, IMAGES) is None


def test_statistics_of_the_batch_are_not_folded() -> None:
    net = chain(plain)
    net.norm = nn.BatchNorm2d(3, track_running_stats=False)
    assert folded_copy(net.eval(), IMAGES) is None


def test_a_linear_layer_takes_its_batch_norm_and_only_over_its_outputs() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        net = trained(nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)))
        tokens = trained(nn.Sequential(nn.Flatten(2), nn.Linear(64, 3), nn.BatchNorm1d(3), nn.Flatten()))
    folded = folded_copy(net, IMAGES)
    assert folded is not None and norms(folded) == 0
    assert_same_function(net, folded, IMAGES)
    assert folded_copy(tokens, IMAGES) is None  # its channels are the second axis, the layer's outputs the third


def test_a_net_that_fails_under_watch_is_left_as_it_is() -> None:
    def by_value(conv: nn.Module, norm: nn.Module, images: Tensor) -> Tensor:
        if isinstance(norm, nn.Identity):
            raise RuntimeError("The norm is gone.")
        return norm(conv(images))  # type: ignore[no-any-return]

    assert folded_copy(chain(by_value), IMAGES) is None


def wrapped(net: nn.Module, shape: tuple[int, int, int] = (3, 8, 8), classes: int = 3) -> ModelUnderTest:
    names = tuple(f"class {number}" for number in range(classes))
    return ModelUnderTest(net, classes=names, input_shape=shape, mean=0.4, std=0.5, device="cpu")


def test_the_model_stays_as_it_is_and_passes_of_the_form_count_as_its_own() -> None:
    net = chain(plain)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = wrapped(net)
    fingerprint, own = model.fingerprint(), {k: v.clone() for k, v in model.net.state_dict().items()}
    form = folded_form(model)
    assert form is not None and form is folded_form(model)
    goal = torch.tensor([[False, True, True]] * 2)
    with model.count() as counter:
        form.loss_gradient(IMAGES, goal, margin)
    assert (counter.forwards, counter.backwards) == (2, 2)
    assert model.fingerprint() == fingerprint
    for expected, state in ((before, net.state_dict()), (own, model.net.state_dict())):
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    torch.testing.assert_close(form.logits(IMAGES), model.logits(IMAGES), rtol=1e-4, atol=1e-5)


def test_searches_ask_the_folded_form_only_where_the_layout_says_so() -> None:
    model = wrapped(chain(plain))
    assert search_form(model) is model
    model.layout.folded = True
    assert search_form(model) is folded_form(model)
    model.module.draws = 4  # a model that draws random numbers
    assert search_form(model) is model


@pytest.mark.parametrize(("cost", "folded"), [(0.9, True), (0.99, False), (1.1, False)])
def test_the_probe_folds_where_it_pays_and_remembers_it(
    monkeypatch: pytest.MonkeyPatch, cost: float, folded: bool
) -> None:
    forms: list[nn.Module] = []

    def pretended(model: ModelUnderTest, layout: ExecutionLayout, deadline: float) -> float:
        forms.append(model.net)
        return cost if norms(model.net) == 0 else 1.0

    monkeypatch.setattr(autotune, "_cost", pretended)
    assert autotune.tune_execution(wrapped(chain(plain))).folded is folded
    assert any(norms(net) == 0 for net in forms)
    forms.clear()
    model = wrapped(chain(plain))
    assert autotune.tune_execution(model).folded is folded is model.layout.folded
    assert forms == []


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_battery_in_the_folded_form_gives_the_same_verdicts(monkeypatch: pytest.MonkeyPatch, norm: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4)
        )
    model = wrapped(trained(net), (1, 12, 12), 4)
    images = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(9))
    batch = Batch(images, model.predictions(images), tuple(map(str, range(40))))
    asked: list[nn.Module] = []
    run = type(model).loss_gradient

    def noted(self: ModelUnderTest, *arguments: object) -> object:
        asked.append(self.net)
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelUnderTest, "loss_gradient", noted)
    survived = []
    for folded in (False, True):
        layout = ExecutionLayout(True, 64, folded)
        monkeypatch.setattr("audit.adversarial.battery_job.tune_execution", lambda _, chosen=layout: None)
        model.layout.folded = folded
        asked.clear()
        eps = (0.005, 0.02, 0.05) if norm == "linf" else (0.05, 0.2, 0.5)
        survived.append(run_battery(model, batch, norm, eps, battery="quick").survived)  # type: ignore[arg-type]
        assert any(norms(net) == 0 for net in asked) is folded
    assert 0 < int(survived[0].sum()) < survived[0].numel()
    assert torch.equal(*survived)
