"""Weights saved by wrapped, pruned, reparametrised and renumbered nets load as the plain net's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from audit.core.errors import ModelError
from audit.models.key_matching import match_keys
from audit.models.saved_forms import computed_weights
from audit.models.state_dict import fit_of, load_matching

State = dict[str, Tensor]
IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions of equal shape in a block, and a head."""

    def __init__(self, seed: int = 0, head: nn.Module | None = None) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.fc = head or nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 3)."""
        scores: Tensor = self.fc(self.flat(self.pool(self.block(self.stem(images)))))
        return scores


def with_part(word: str, after: str) -> State:
    return {name.replace(after, f"{after}{word}."): value for name, value in Net().state_dict().items()}


def mixed() -> State:
    return {f"module.{name}" if place % 2 else name: v for place, (name, v) in enumerate(Net().state_dict().items())}


WRAPPED: dict[str, Callable[[], State]] = {
    "compiled block": lambda: with_part("_orig_mod", "block."),
    "fully sharded block": lambda: with_part("_fsdp_wrapped_module", "block."),
    "checkpointed layer": lambda: with_part("_checkpoint_wrapped_module", "block.0."),
    "half of the names under module": mixed,
    "numbered": lambda: dict(nn.Sequential(*Net().children()).state_dict()),
    "numbered backbone beside a head": lambda: {
        **{f"backbone.{k}": v for k, v in nn.Sequential(*list(Net().children())[:-1]).state_dict().items()},
        **{f"head.{k}": v for k, v in Net().fc.state_dict().items()},
    },
}


@pytest.mark.parametrize("form", WRAPPED)
def test_names_of_wrapped_and_numbered_layers_are_those_of_the_net(form: str) -> None:
    net = Net(seed=1).eval()
    loaded = load_matching(net, WRAPPED[form](), checkpoint="x.pth", architecture="y")
    assert torch.equal(net(IMAGES), Net().eval()(IMAGES))
    assert loaded.notes and fit_of(WRAPPED[form](), net) == 1


def pruned(net: Net) -> Net:
    for layer in (net.stem, net.block[0], net.fc):
        prune.random_unstructured(layer, "weight", amount=0.5)  # type: ignore[no-untyped-call]
    return net


def normalised(net: Net) -> Net:
    nn.utils.parametrizations.weight_norm(net.stem)
    nn.utils.parametrizations.weight_norm(net.fc)
    nn.utils.parametrizations.spectral_norm(net.block[0])
    return net


def normalised_as_before(net: Net) -> Net:
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(net.stem)
    nn.utils.spectral_norm(net.block[0])
    return net


PARTS: dict[str, tuple[Callable[[Net], Net], int]] = {
    "pruned": (pruned, 3),
    "weight and spectral normalisation": (normalised, 3),
    "the same before torch 2.0": (normalised_as_before, 2),
}


@pytest.mark.parametrize("form", PARTS)
def test_weights_kept_in_parts_are_computed_as_the_net_computes_them(form: str) -> None:
    make, count = PARTS[form]
    source = make(Net())
    source(IMAGES)  # spectral normalisation takes a step in training
    state = {f"model.{name}": value.clone() for name, value in source.state_dict().items()}
    net = Net(seed=1).eval()
    (said, *_) = load_matching(net, state, checkpoint="x.pth", architecture="y").notes
    assert torch.allclose(net(IMAGES), source.eval()(IMAGES), atol=1e-6)
    assert str(said).startswith(f"{count} weights")
    again = make(Net(seed=1)).eval()
    assert load_matching(again, source.state_dict(), checkpoint="x.pth", architecture="y").notes == ()


def test_a_mask_that_belongs_to_no_weight_computes_nothing() -> None:
    state = {"a_orig": torch.ones(2), "b_mask": torch.ones(2), "c_g": torch.ones(2)}
    assert computed_weights(state) == (state, 0)


def test_numbered_layers_of_other_shapes_are_not_taken_by_their_order() -> None:
    state = dict(nn.Sequential(*Net().children()).state_dict())
    state["1.2.weight"] = torch.ones(4, 4, 1, 1)
    assert match_keys(state, Net().state_dict()).missing
    with pytest.raises(ModelError, match="does not fit"):
        load_matching(Net(), state, checkpoint="x.pth", architecture="y")


REMEDIES: dict[str, tuple[Callable[[State], State], str]] = {
    "adapters": (lambda s: {**s, "fc.lora_A": torch.ones(1, 4), "fc.lora_B": torch.ones(3, 1)}, "merge_and_unload"),
    "no head": (lambda s: {k: v for k, v in s.items() if not k.startswith("fc")}, "audit train --pretrained"),
    "a head of two layers": (
        lambda s: {
            **{k: v for k, v in s.items() if not k.startswith("fc")},
            **{f"fc.{k}": v for k, v in nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)).state_dict().items()},
        },
        r"--architecture FILE\.py:FUNCTION",
    ),
}


@pytest.mark.parametrize("cause", REMEDIES)
def test_the_remedy_follows_from_what_does_not_fit(cause: str) -> None:
    make, remedy = REMEDIES[cause]
    with pytest.raises(ModelError, match=remedy):
        load_matching(Net(), make(dict(Net().state_dict())), checkpoint="x.pth", architecture="y")
