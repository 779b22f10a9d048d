import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import ModelError, SetupError, UsageError
from audit.models.devices import resolve_device
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest
from tests.conftest import small_cnn
from tests.memory_faults import MEMORY_FAULTS, Starved

SHAPE = (1, 12, 12)
NAMES = ("a", "b", "c", "d")


def wrap(module: nn.Module, **kwargs: object) -> ModelUnderTest:
    arguments = {"classes": NAMES, "input_shape": SHAPE, "device": "cpu"} | kwargs
    return ModelUnderTest(module, **arguments)  # type: ignore[arg-type]


def images(count: int = 5) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def test_the_normalisation_is_inside() -> None:
    net = small_cnn()
    model = wrap(net, mean=0.3, std=0.2)
    assert torch.allclose(model.logits(images()), net.eval()((images() - 0.3) / 0.2), atol=1e-5)


def test_batching_does_not_change_the_answer() -> None:
    model = wrap(small_cnn())
    together = model.logits(images(9))
    model.layout.batch_size = 2
    assert torch.allclose(together, model.logits(images(9)), atol=1e-6)
    assert len(model.logits(images(0))) == 0


def test_the_gradient_is_that_of_each_examples_own_loss() -> None:
    net = small_cnn()
    model = wrap(net)
    labels = torch.tensor([0, 1, 2, 3, 0])
    answer = model.loss_gradient(images(), labels, cross_entropy)
    leaf = images().requires_grad_(True)
    losses = cross_entropy(net(leaf), labels)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert torch.allclose(answer.gradient, leaf.grad, atol=1e-6)
    assert torch.allclose(answer.losses, losses.detach(), atol=1e-5)


def test_passes_count_examples_forwarded_and_back_propagated() -> None:
    model = wrap(small_cnn())
    assert (model.passes.forwards, model.passes.backwards) == (0, 0)
    with model.count() as spent:
        model.logits(images(7))
        model.loss_gradient(images(3), torch.zeros(3, dtype=torch.int64), cross_entropy)
    assert (spent.forwards, spent.backwards) == (10, 3)


def test_the_users_module_is_never_touched() -> None:
    net = small_cnn().train()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = copy.deepcopy(net.state_dict())
    model = wrap(net)
    model.loss_gradient(images(), torch.zeros(5, dtype=torch.int64), cross_entropy)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(p.requires_grad for p in model.net.parameters())


def test_the_fingerprint_follows_weights_structure_and_normalisation() -> None:
    net = small_cnn()
    changed = copy.deepcopy(net)
    with torch.no_grad():
        changed[0].bias[0] += 1e-3
    prints = [
        wrap(net).fingerprint(),
        wrap(changed).fingerprint(),
        wrap(net, mean=0.5).fingerprint(),
        wrap(nn.Sequential(net, nn.Identity())).fingerprint(),
    ]
    assert len(set(prints)) == 4
    assert wrap(copy.deepcopy(net)).fingerprint() == prints[0]


def test_a_softmax_output_is_detected_and_read_as_log_probabilities() -> None:
    net = small_cnn()
    model = wrap(nn.Sequential(net, nn.Softmax(1)))
    assert "softmax" in str(model.notes[0])
    assert torch.allclose(model.logits(images()), net(images()).log_softmax(1).detach(), atol=1e-5)
    assert not wrap(net).notes


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Identity()])
def test_a_two_class_net_with_one_output_gives_two_logits(last: nn.Module) -> None:
    net = nn.Sequential(small_cnn(classes=1), last)
    with torch.no_grad():
        net[0][-1].bias -= 3.0  # type: ignore[index, operator]
    model = wrap(net, classes=("cat", "dog"))
    z = net[0](images()).detach()  # type: ignore[operator]
    assert torch.allclose(model.logits(images()).softmax(1)[:, 1:], z.sigmoid(), atol=1e-5)


class Views(nn.Module):
    """Calls `view` on its features, which channels-last tensors refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(800, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).view(len(images), -1))


def test_a_net_that_calls_view_gets_the_layout_it_needs() -> None:
    net = Views()
    model = wrap(net)
    assert not model.layout.channels_last
    assert torch.allclose(model.logits(images()), net(images()).detach(), atol=1e-5)


@pytest.mark.parametrize("name", MEMORY_FAULTS)
def test_out_of_memory_going_back_halves_the_batch_and_keeps_the_gradient(name: str) -> None:
    starved = nn.Sequential(Starved(4, MEMORY_FAULTS[name], going_back=True), small_cnn())
    goal = torch.zeros(20, 4, dtype=torch.bool)
    goal[:, 1] = True
    tight, roomy = wrap(starved), wrap(small_cnn())
    tight.layout.batch_size = 16
    found, expected = (model.loss_gradient(images(20), goal, margin).gradient for model in (tight, roomy))
    assert torch.allclose(found, expected, atol=1e-6)
    assert tight.layout.batch_size == 4


@pytest.mark.parametrize("name", MEMORY_FAULTS)
def test_out_of_memory_halves_the_batch_and_keeps_the_answer(name: str) -> None:
    model = wrap(nn.Sequential(Starved(4, MEMORY_FAULTS[name]), small_cnn()))
    assert torch.allclose(model.logits(images(50)), wrap(small_cnn()).logits(images(50)), atol=1e-6)
    assert model.layout.batch_size == 4
    model.layout.halve()
    model.layout.halve()
    with pytest.raises(SetupError, match="single image"):
        model.layout.halve()


@pytest.mark.parametrize(
    ("module", "kwargs", "words"),
    [
        (small_cnn(classes=5), {}, "4 classes"),
        (small_cnn(channels=3), {}, "channels, height, width"),
        (small_cnn(), {"std": 0.0}, "std"),
        (small_cnn(), {"mean": (0.1, 0.2)}, "mean has 2 values"),
        (small_cnn(), {"classes": ("a",)}, "two classes"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_a_sentence(
    module: nn.Module, kwargs: dict[str, object], words: str
) -> None:
    with pytest.raises((ModelError, UsageError), match=words):
        wrap(module, **kwargs)


def test_outputs_that_are_not_finite_are_refused() -> None:
    net = small_cnn()
    with torch.no_grad():
        net[-1].bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match="not finite"):
        wrap(net)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match="channels first"):
        wrap(small_cnn()).logits(torch.rand(2, 12, 12, 1))


def test_an_absent_device_is_an_environment_fault() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(SetupError, match="auto or cpu"):
        resolve_device("cuda:9")


def test_nothing_depends_on_the_default_device() -> None:
    net, batch = small_cnn(), images()
    with torch.device("meta"):
        assert wrap(net).logits(batch).device.type == "cpu"
