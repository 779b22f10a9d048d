"""Compression does exactly what it says to the weights, and nothing to the original."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.errors import UsageError
from audit.models.compression.compress import (
    amount_of,
    clip_weights,
    keep_pruned,
    prune_weights,
    quantize_weights,
    unpack,
)
from audit.models.compression.cost import footprint, paired_latency
from audit.training.fit import fit
from tests.training.toy import same_weights, thirds, tiny_net

COMPRESSIONS: list[Callable[[nn.Module], object]] = [
    lambda net: prune_weights(net, 0.5),
    lambda net: clip_weights(net, 1.0),
    quantize_weights,
]


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_the_original_is_not_touched(compress: Callable[[nn.Module], object]) -> None:
    net = tiny_net(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    compress(net)
    assert same_weights(net.state_dict(), before)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pruning_drops_the_smallest_weights_of_all_layers_together(share: float) -> None:
    net = tiny_net()
    twin, masks = prune_weights(net, share)
    old = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim > 1])
    new = torch.cat([p.detach().flatten() for p in twin.parameters() if p.ndim > 1])
    gone = new == 0
    assert int(gone.sum()) == round(share * old.numel())
    assert old[gone].abs().max() < old[~gone].abs().min()
    assert torch.equal(new[~gone], old[~gone])
    assert set(masks) == {"0.weight", "4.weight", "7.weight"}


def test_clipping_ends_where_it_should() -> None:
    net = tiny_net()
    twin = clip_weights(net, 1.0)
    for old, new in zip(net.parameters(), twin.parameters(), strict=True):
        if old.ndim > 1:
            low, high = old.mean() - old.std(correction=0), old.mean() + old.std(correction=0)
            assert torch.allclose(new, old.clamp(low.item(), high.item()))
        else:
            assert torch.equal(new, old)


def test_int8_weights_are_within_half_a_step_and_unpack_to_the_model() -> None:
    net = tiny_net()
    twin, packed = quantize_weights(net)
    for name in ("0.weight", "4.weight", "7.weight"):
        old, new = net.get_parameter(name), twin.get_parameter(name)
        scale = packed[f"{name}.scale"].view(-1, *[1] * (old.ndim - 1))
        assert packed[name].dtype == torch.int8
        assert bool(((old - new).abs() <= 0.5001 * scale).all())
        assert torch.equal(packed[name].float() * scale, new)
        assert bool((packed[name].flatten(1).abs().amax(1) == 127).all())
    assert torch.equal(packed["0.bias"], net[0].bias)
    images = torch.rand(20, 1, 9, 9)
    assert torch.allclose(net(images), twin(images), atol=0.02)


def test_fine_tuning_cannot_bring_a_pruned_weight_back() -> None:
    twin, masks = prune_weights(tiny_net(), 0.7)
    settings = TrainingConfig(epochs=3, batch_size=30, learning_rate=0.05, optimizer="adamw", weight_decay=0.01)
    with keep_pruned(twin, masks):
        trained = fit(twin, thirds(200), settings, classes=3)
    for name, mask in masks.items():
        assert bool((trained.weights[name][mask == 0] == 0).all())
        assert not torch.equal(trained.weights[name], tiny_net().state_dict()[name] * mask)
    twin[0].weight.grad = None
    twin(torch.rand(3, 1, 9, 9)).sum().backward()
    assert bool((twin[0].weight.grad[masks["0.weight"] == 0] != 0).any())


def test_footprints_count_what_is_stored() -> None:
    net = tiny_net()
    plain = footprint(net)
    assert plain.parameters == plain.nonzero == 40 + 102 + 75
    assert plain.bytes > 4 * plain.parameters
    pruned = footprint(prune_weights(net, 0.9)[0])
    assert pruned.nonzero < 0.3 * plain.nonzero and pruned.bytes == plain.bytes
    assert pruned.compressed_bytes < 0.7 * plain.compressed_bytes
    wide = nn.Sequential(nn.Flatten(), nn.Linear(2000, 50))
    assert footprint(wide, quantize_weights(wide)[1]).bytes < 0.27 * footprint(wide).bytes


def test_latencies_are_taken_in_turn_and_leave_the_modes_alone() -> None:
    order: list[str] = []
    first, second = tiny_net(norm=True).train(), tiny_net().eval()
    first.register_forward_hook(lambda *_: order.append("first"))
    second.register_forward_hook(lambda *_: order.append("second"))
    before = {name: value.clone() for name, value in first.state_dict().items()}
    ours, theirs = paired_latency(first, second, torch.rand(4, 1, 9, 9))
    assert order == ["first", "second"] * 16
    assert len(ours) == len(theirs) == 15 and min(*ours, *theirs) > 0
    assert first.training and not second.training and same_weights(first.state_dict(), before)


def test_a_packed_model_unpacks_to_the_quantised_one_and_others_stay_as_they_are() -> None:
    net = tiny_net(norm=True)
    twin, packed = quantize_weights(net)
    assert unpack(packed).keys() == twin.state_dict().keys()
    assert all(torch.equal(unpack(packed)[name], value) for name, value in twin.state_dict().items())
    assert same_weights(unpack(net.state_dict()), net.state_dict())


@pytest.mark.parametrize(
    ("method", "amount", "expected"), [("magnitude", None, 0.5), ("clip", 3.0, 3.0), ("int8", None, None)]
)
def test_an_amount_is_the_given_one_or_the_usual(method: str, amount: float | None, expected: float | None) -> None:
    assert amount_of(method, amount) == expected


@pytest.mark.parametrize(
    ("method", "amount", "words"), [("int8", 0.5, "takes no amount"), ("structured", 3.0, "between 0 and 1")]
)
def test_an_amount_without_meaning_is_refused(method: str, amount: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        amount_of(method, amount)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 50.0])
def test_impossible_amounts_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        prune_weights(tiny_net(), share)
    with pytest.raises(UsageError, match="positive number"):
        clip_weights(tiny_net(), -share if share > 0 else share)
