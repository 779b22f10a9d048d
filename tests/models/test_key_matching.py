"""Any state dict is brought to a module's names, with what was done to it said; or refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from audit.config import ModelConfig
from audit.core.errors import ModelError
from audit.models.architecture import build
from audit.models.input_scaling import scaling_notes
from audit.models.key_matching import match_keys
from audit.models.load import load_model, with_own_normalisation
from audit.models.loaded import LoadedModel
from audit.models.state_dict import load_matching, match_module
from audit.training.transfer import load_pretrained, pretrained_state

State = dict[str, Tensor]
CLASSES = ("a", "b", "c")
SHAPE = (3, 32, 32)
IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Module:
    return build("cnn-32", classes=3, input_shape=SHAPE, seed=seed).eval()


RAW, AVERAGED = net(1), net(2)


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def without_dots(state: State) -> State:
    return {name.replace(".", ""): tensor for name, tensor in state.items()}


def parameters(module: nn.Module) -> State:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def load(content: Any, path: Path, architecture: str = "cnn-32", **fields: Any) -> tuple[LoadedModel, ModelConfig]:
    torch.save(content, path / "net.pth")
    config = ModelConfig(weights=str(path / "net.pth"), architecture=architecture, **fields)
    loaded = load_model(config, classes=CLASSES, input_shape=SHAPE, device="cpu", seed=0)
    return with_own_normalisation(loaded, config)


def is_net(loaded: LoadedModel, wanted: nn.Module) -> bool:
    return torch.allclose(loaded.module(IMAGES), wanted(IMAGES), atol=1e-5)


ONE_SET: dict[str, Callable[[State], Any]] = {
    "Lightning with losses and metrics": lambda s: {
        "state_dict": {
            **under("model.", s),
            "criterion.weight": torch.ones(3),
            "train_acc.tp": torch.tensor([1, 2]),
            "val_loss.mean": torch.tensor(1.0),
        },
        "hyper_parameters": {"class_weights": torch.ones(3)},
        "callbacks": {"Best": {"score": torch.tensor(1.0)}},
    },
    "a prefix of one's own": lambda s: under("lit.core.net.", s),
    "counters among the weights": lambda s: {**s, "epoch": 3, "best": 0.5, "name": "x"},
    "a profiler's counts": lambda s: {**s, "total_ops": torch.zeros(1), "layer.total_params": torch.zeros(1)},
    "an averaged model": lambda s: {**under("module.", s), "n_averaged": torch.tensor(3)},
    "the accuracy as a tensor": lambda s: {"state_dict": under("module.", s), "best_acc1": torch.tensor(0.7)},
    "an entry of any name": lambda s: {"my_weights": s, "epoch": 1},
    "entries in entries": lambda s: {"model": {"state_dict": under("module.", s)}},
    "a tuple with settings": lambda s: (s, {"lr": 0.1}),
    "arrays": lambda s: {name: tensor.numpy() for name, tensor in s.items()},
    "a criterion's state": lambda s: {"criterion": {"weight": torch.ones(3)}, "net": s},
    "an empty average": lambda s: {"state_dict": s, "state_dict_ema": None, "ema": {}},
}


@pytest.mark.parametrize("form", ONE_SET)
@pytest.mark.parametrize("architecture", ["cnn-32", "auto"])
def test_what_stands_around_the_weights_is_set_aside(form: str, architecture: str, tmp_path: Path) -> None:
    loaded, _ = load(ONE_SET[form](RAW.state_dict()), tmp_path, architecture)
    assert is_net(loaded, RAW)
    assert loaded.notes or form == "arrays"


TWO_SETS: dict[str, tuple[Callable[[State, State], Any], str]] = {
    "timm": (lambda raw, mean: {"state_dict": raw, "state_dict_ema": mean}, "state_dict"),
    "torchvision's references": (
        lambda raw, mean: {"model": raw, "model_ema": {**under("module.", mean), "n_averaged": torch.tensor(2)}},
        "model",
    ),
    "one flat state": (lambda raw, mean: {**under("online_model.", raw), **under("ema_model.", mean)}, "online_model"),
    "an average of any name": (lambda raw, mean: {**under("net.", raw), **under("net_ema.", mean)}, "net"),
    "buffers without dots": (
        lambda raw, mean: {**under("model.", raw), **under("model_ema.", without_dots(mean))},
        "model",
    ),
}


@pytest.mark.parametrize("form", TWO_SETS)
def test_averaged_weights_are_taken_and_the_raw_ones_on_demand(form: str, tmp_path: Path) -> None:
    make, entry = TWO_SETS[form]
    content = make(dict(RAW.state_dict()), dict(AVERAGED.state_dict()))
    loaded, _ = load(content, tmp_path)
    assert is_net(loaded, AVERAGED)
    assert f"--weights-entry {entry}" in " ".join(note.text for note in loaded.notes)
    assert is_net(load(content, tmp_path, weights_entry=entry)[0], RAW)


def test_averaged_parameters_keep_the_raw_buffers() -> None:
    raw, mean = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    raw[1].running_mean.fill_(7)  # type: ignore[union-attr, operator]
    state = {**under("model.", raw.state_dict()), **under("ema.", parameters(mean))}
    target = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    load_matching(target, state, checkpoint="x", architecture="y")
    assert torch.equal(target[0].weight, mean[0].weight) and float(target[1].running_mean[0]) == 7  # type: ignore[index, arg-type]


def test_several_sets_that_nothing_tells_apart_are_asked_for(tmp_path: Path) -> None:
    content = {"student": RAW.state_dict(), "teacher": AVERAGED.state_dict()}
    with pytest.raises(ModelError, match=r"student, teacher.*--weights-entry student"):
        load(content, tmp_path)
    assert is_net(load(content, tmp_path, weights_entry="teacher")[0], AVERAGED)
    with pytest.raises(ModelError, match="no weights under 'nobody'"):
        load(content, tmp_path, weights_entry="nobody")


def test_averaged_weights_without_names_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    content = {"model": RAW.state_dict(), "ema": {"shadow_params": list(parameters(AVERAGED).values())}}
    loaded, _ = load(content, tmp_path)
    assert is_net(loaded, RAW) and "without names" in " ".join(note.text for note in loaded.notes)


NORMALISERS: dict[str, tuple[Callable[[State], State], tuple[float, ...], tuple[float, ...]]] = {
    "beside a wrapped net": (
        lambda s: {
            **under("model.", s),
            "normalize.mean": torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1),
            "normalize.std": torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1),
        },
        (0.4, 0.5, 0.6),
        (0.2, 0.25, 0.3),
    ),
    "of bytes, among the weights": (
        lambda s: {**s, "pixel_mean": torch.full((3,), 127.5), "pixel_std": torch.full((3,), 51.0)},
        (0.5, 0.5, 0.5),
        (0.2, 0.2, 0.2),
    ),
    "of MadryLab's robustness": (
        lambda s: {
            **under("module.model.", s),
            **under("module.attacker.model.", s),
            "module.normalizer.new_mean": torch.full((3, 1, 1), 0.5),
            "module.normalizer.new_std": torch.full((3, 1, 1), 0.25),
        },
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
    ),
    "first of a sequence": (
        lambda s: {**under("1.", s), "0.mean": torch.full((1, 3, 1, 1), 0.5), "0.std": torch.full((1, 3, 1, 1), 0.5)},
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ),
}


@pytest.mark.parametrize("form", NORMALISERS)
def test_a_normaliser_kept_as_buffers_is_applied(form: str, tmp_path: Path) -> None:
    make, mean, std = NORMALISERS[form]
    loaded, config = load(make(dict(RAW.state_dict())), tmp_path)
    assert is_net(loaded, RAW)
    assert config.mean == pytest.approx(mean) and config.std == pytest.approx(std)
    assert "normalisation" in loaded.notes[-1].text
    _, given = load(make(dict(RAW.state_dict())), tmp_path, mean=(0.1, 0.1, 0.1))
    assert given.mean == (0.1, 0.1, 0.1)


def test_a_layer_that_the_module_lacks_is_refused_and_not_set_aside() -> None:
    """Else the weights of a deeper net would pass for those of a shallower one."""
    state = torchvision.models.resnet34(num_classes=3).state_dict()
    with pytest.raises(ModelError, match=r"unknown: layer1\.2"):
        load_matching(torchvision.models.resnet18(num_classes=3), state, checkpoint="x", architecture="y")
    extra = {**RAW.state_dict(), "bn9.weight": torch.ones(3), "bn9.bias": torch.ones(3)}
    with pytest.raises(ModelError, match=r"unknown: bn9\.weight"):
        load_matching(net(3), extra, checkpoint="x", architecture="y")
    attention = {**RAW.state_dict(), "layer1.0.ema.conv.weight": torch.ones(3, 3, 1, 1)}
    with pytest.raises(ModelError, match=r"unknown: layer1\.0\.ema"):
        load_matching(net(3), attention, checkpoint="x", architecture="y")


@pytest.mark.parametrize("head", ["head.fc", "classifier", "fc"])
def test_the_head_that_a_trainer_puts_beside_a_backbone_is_the_last_layer(head: str) -> None:
    """As in OpenMMLab's checkpoints, and in those of Lightning modules around a backbone without its own."""
    state = torchvision.models.resnet18(num_classes=3).state_dict()
    backbone = {f"backbone.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    heads = {f"{head}.{name}": state[f"fc.{name}"] for name in ("weight", "bias")}
    target = torchvision.models.resnet18(num_classes=3)
    swapped = {"ema_" + name.replace(".", "_"): value + 1 for name, value in backbone.items()}
    loaded = load_matching(target, {**backbone, **heads, **swapped}, checkpoint="x.pth", architecture="resnet18")
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())
    assert any(f"'{head}'" in note.text for note in loaded.notes)
    behind_dropout = {f"fc.1.{name}": state[f"fc.{name}"] for name in ("weight", "bias")}
    plain = {name: value for name, value in state.items() if not name.startswith("fc.")}
    load_matching(target, {**plain, **behind_dropout}, checkpoint="x.pth", architecture="resnet18")
    two = {f"other.{name}": value for name, value in zip(("weight", "bias"), heads.values(), strict=True)}
    with pytest.raises(ModelError, match=r"missing: fc\.weight"):
        load_matching(target, {**backbone, **heads, **two}, checkpoint="x.pth", architecture="resnet18")


def old_densenet(state: State) -> State:
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name): value for name, value in state.items()}


def test_published_names_of_older_versions_load_everywhere() -> None:
    state = torchvision.models.densenet121(num_classes=3).state_dict()
    target = torchvision.models.densenet121(num_classes=3)
    loaded = load_matching(target, under("module.", old_densenet(state)), checkpoint="d.pth", architecture="densenet")
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())
    assert any("older version" in note.text for note in loaded.notes)
    assert load_pretrained(torchvision.models.densenet121(num_classes=5), old_densenet(state)) == (
        "classifier.weight",
        "classifier.bias",
    )


def test_heads_that_only_training_runs_and_step_counters_may_lack_or_stand_over() -> None:
    with_heads = torchvision.models.googlenet(weights=None, init_weights=False, num_classes=3, aux_logits=True)
    plain = build("torchvision:googlenet", classes=3, input_shape=(3, 64, 64), seed=0)
    loaded = load_matching(plain, with_heads.state_dict(), checkpoint="g.pth", architecture="googlenet")
    assert torch.equal(plain.state_dict()["fc.weight"], with_heads.state_dict()["fc.weight"])
    assert any("aux1" in note.text for note in loaded.notes)
    bare = {name: value for name, value in plain.state_dict().items() if "num_batches_tracked" not in name}
    assert not match_module(bare, with_heads).missing
    load_matching(with_heads, bare, checkpoint="g.pth", architecture="googlenet")


def test_old_and_new_weight_normalisation_meet() -> None:
    new, old = (nn.Sequential(nn.Linear(2, 3)) for _ in range(2))
    nn.utils.parametrizations.weight_norm(new[0])
    state = {"0.bias": torch.zeros(3), "0.weight_g": torch.ones(3, 1), "0.weight_v": torch.ones(3, 2)}
    assert match_keys(state, new.state_dict()).renamed == 2
    load_matching(new, state, checkpoint="x", architecture="y")
    assert not match_keys(under("module.", old.state_dict()), old.state_dict()).missing


@pytest.mark.parametrize(("classes", "on"), [(1000, True), (4, False)])
def test_transform_input_is_on_for_published_weights_and_said_to_be_off_for_others(classes: int, on: bool) -> None:
    module = torchvision.models.googlenet(weights=None, init_weights=False, num_classes=4, aux_logits=False)
    (said,) = scaling_notes(module, module.state_dict(), classes, "g.pth")
    assert module.transform_input is on
    assert "transform_input is " + ("on" if on else "off") in said.text
    assert scaling_notes(RAW, RAW.state_dict(), classes, "net.pth") == ()


def test_the_number_of_outputs_is_named_where_that_alone_does_not_fit(tmp_path: Path) -> None:
    torch.save(build("cnn-32", classes=5, input_shape=SHAPE, seed=0).state_dict(), tmp_path / "net.pth")
    config = ModelConfig(weights=str(tmp_path / "net.pth"))
    with pytest.raises(ModelError, match="cnn-32 with 5 outputs, and 3 classes"):
        load_model(config, classes=CLASSES, input_shape=SHAPE, device="cpu", seed=0)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_its_numbers(kind: torch.dtype, tmp_path: Path) -> None:
    stored = {name: value.to(kind) if value.ndim > 1 else value for name, value in RAW.state_dict().items()}
    loaded, _ = load(stored, tmp_path)
    assert torch.equal(loaded.module.conv1.weight.float(), stored["conv1.weight"].float())  # type: ignore[union-attr, operator]
    assert any(str(kind) in str(note) for note in loaded.notes) or kind == torch.float64


def test_pretrained_weights_are_found_the_same_way(tmp_path: Path) -> None:
    torch.save({"model": RAW.state_dict(), "model_ema": under("module.", AVERAGED.state_dict())}, tmp_path / "p.pth")
    target = build("cnn-32", classes=5, input_shape=SHAPE, seed=0)
    assert load_pretrained(target, pretrained_state(tmp_path / "p.pth")) == ("head.weight", "head.bias")
    assert torch.equal(target.state_dict()["conv1.weight"], AVERAGED.state_dict()["conv1.weight"])
    load_pretrained(target, pretrained_state(tmp_path / "p.pth", entry="model"))
    assert torch.equal(target.state_dict()["conv1.weight"], RAW.state_dict()["conv1.weight"])
