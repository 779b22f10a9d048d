"""Checkpoints load as data, by name, or are refused with a sentence."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audit.config import ModelConfig, TrustConfig
from audit.core.errors import ModelError, UntrustedError
from audit.models.architecture import build
from audit.models.identity import model_identity
from audit.models.load import load_model
from audit.models.loaded import LoadedModel
from audit.models.state_dict import load_matching

CLASSES = ("a", "b", "c")
SHAPE = (1, 12, 12)


def net(classes: int = 3) -> nn.Module:
    return build("cnn-28", classes=classes, input_shape=SHAPE, seed=5)


def load(path: Path, **fields: Any) -> LoadedModel:
    config = ModelConfig(architecture=fields.pop("architecture", "cnn-28"), weights=str(path), **fields)
    return load_model(config, classes=CLASSES, input_shape=SHAPE, device="cpu", seed=0)


def same_weights(module: nn.Module, wanted: Mapping[str, Tensor]) -> bool:
    state = module.state_dict()
    return set(state) == set(wanted) and all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_safetensors_gives_the_saved_weights_in_eval_mode(tmp_path: Path) -> None:
    state = net().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors")
    assert same_weights(loaded.module, state)
    assert not any(part.training for part in loaded.module.modules())
    assert loaded.origin == "net.safetensors (cnn-28)" and loaded.trusted == () and loaded.notes == ()


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "data-parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled data-parallel": lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
    "lightning": lambda state: {
        "pytorch-lightning_version": "2.4",
        "state_dict": {f"model.{k}": v for k, v in state.items()},
        "hyper_parameters": {"lr": 1e-3},
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_trainers_wrap_around_a_state_dict_is_unwrapped_and_said(wrapper: str, tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(WRAPPERS[wrapper](dict(state)), tmp_path / "net.pt")
    loaded = load(tmp_path / "net.pt")
    assert same_weights(loaded.module, state)
    assert bool(loaded.notes) == (wrapper != "plain")


def test_the_old_torch_format_loads_as_data_too(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert same_weights(load(tmp_path / "net.pth").module, state)


def test_half_precision_weights_are_widened_and_said(tmp_path: Path) -> None:
    torch.save({k: v.half() for k, v in net().state_dict().items()}, tmp_path / "net.pt")
    loaded = load(tmp_path / "net.pt")
    assert {tensor.dtype for tensor in loaded.module.state_dict().values()} == {torch.float32}
    assert "float16" in " ".join(map(str, loaded.notes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "bias" not in k}, "missing"),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "unknown: extra.weight"),
        (lambda s: {k: (v[:2] if v.shape[0] == 3 else v) for k, v in s.items()}, "of another shape"),
        (lambda s: {k: v.long() for k, v in s.items()}, "of another type"),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_first_keys(spoil: Any, message: str, tmp_path: Path) -> None:
    torch.save(spoil(dict(net().state_dict())), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path / "net.pt")
    assert "cnn-28" in str(caught.value) and any(
        flag in str(caught.value) for flag in ("--architecture", "--labels-map")
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_refused_with_its_globals_and_loads_only_when_trusted(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(net(), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UntrustedError, match="Conv2d") as caught:
        load(path)
    assert f"--trust {path}" in str(caught.value)
    loaded = load(path, trust=(TrustConfig(path=str(path)),))
    assert same_weights(loaded.module, net().state_dict())
    assert loaded.trusted[0]["path"] == "whole.pt" and len(loaded.trusted[0]["sha256"]) == 64
    with pytest.raises(UntrustedError, match="has changed since it was trusted"):
        load(path, trust=(TrustConfig(path=str(path), sha256="0" * 64),))


def test_trusting_one_file_does_not_trust_another(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole.pt")
    torch.save(net(), tmp_path / "other.pt")
    with pytest.raises(UntrustedError):
        load(tmp_path / "whole.pt", trust=(TrustConfig(path=str(tmp_path / "other.pt")),))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_is_code_and_runs_only_when_trusted(tmp_path: Path) -> None:
    path, images = tmp_path / "script.pt", torch.rand(2, *SHAPE)
    torch.jit.trace(net().eval(), images).save(str(path))
    with pytest.raises(UntrustedError, match="TorchScript"):
        load(path)
    trusted = load(path, trust=(TrustConfig(path=str(path)),)).module
    assert torch.allclose(trusted(images), net().eval()(images), atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_torch_export_archive_is_code_and_runs_only_when_trusted(tmp_path: Path) -> None:
    path, images = tmp_path / "net.pt2", torch.rand(2, *SHAPE)
    torch.export.save(torch.export.export(net().eval(), (images,)), path)
    with pytest.raises(UntrustedError, match=r"torch\.export"):
        load(path)
    trusted = load(path, trust=(TrustConfig(path=str(path)),)).module
    assert torch.allclose(trusted(images), net().eval()(images), atol=1e-6)


def test_a_torch_package_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "package.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/.data/extern_modules", "os\n")
    with pytest.raises(UntrustedError, match=r"torch\.package"):
        load(path, trust=(TrustConfig(path=str(path)),))


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    state = dict(net().state_dict())
    key = next(iter(state))
    state[key] = state[key].to_sparse()
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="sparse"):
        load(tmp_path / "net.pt")


def saved(**options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(net().state_dict(), stream, **options)
    return stream.getvalue()


DAMAGED = {
    "half.pt": lambda: saved()[: len(saved()) // 2],
    "old-half.pt": lambda: saved(_use_new_zipfile_serialization=False)[:3000],
    "empty.pt": lambda: b"",
    "text.pt": lambda: b"this is no checkpoint at all\n" * 20,
    "empty.safetensors": lambda: b"",
    "text.safetensors": lambda: b"this is no checkpoint at all\n" * 20,
    "long-header.safetensors": lambda: (1 << 62).to_bytes(8, "little") + b"{}",
    "list.pt": lambda: pickled([1, 2, 3]),
    "empty-dict.pt": lambda: pickled({}),
    "odd.xyz": lambda: b"what",
}


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_and_foreign_files_get_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name]())
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        load(tmp_path / "absent.pt")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("form", ["zip", "old", "bare pickle", "protocol 0", "protocol 4"])
def test_a_payload_never_runs(form: str, tmp_path: Path) -> None:
    target, path = tmp_path / "canary", tmp_path / "evil.pt"
    if form in ("zip", "old"):
        torch.save({"w": Payload(target)}, path, _use_new_zipfile_serialization=form == "zip")
    else:
        protocol = {"bare pickle": 2, "protocol 0": 0, "protocol 4": 4}[form]
        path.write_bytes(pickle.dumps({"w": Payload(target)}, protocol=protocol))
    with pytest.raises(UntrustedError, match="open"):
        load(path)
    assert not target.exists()


def test_identity_follows_the_bytes_and_settings_but_not_the_place(tmp_path: Path) -> None:
    def identity(path: Path, **fields: Any) -> str:
        config = ModelConfig(architecture="cnn-28", weights=str(path), **fields)
        return model_identity(config, classes=CLASSES, input_shape=SHAPE, seed=0)

    (tmp_path / "far").mkdir()
    for path in (tmp_path / "a.pt", tmp_path / "far" / "b.pt"):
        path.write_bytes(b"one")
    (tmp_path / "c.pt").write_bytes(b"two")
    first = identity(tmp_path / "a.pt")
    assert first == identity(tmp_path / "far" / "b.pt")
    assert len({first, identity(tmp_path / "c.pt"), identity(tmp_path / "a.pt", mean=0.5)}) == 3


def test_a_count_that_an_older_run_stored_as_a_row_of_one_is_read() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    state = net.state_dict() | {"0.num_batches_tracked": torch.tensor([7])}
    load_matching(net, state, checkpoint="older.safetensors", architecture="net")
    assert net[0].num_batches_tracked.item() == 7


def test_a_checkpoint_of_other_classes_is_told_apart_from_another_architecture() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    more = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1000))
    wider = torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.ReLU(), torch.nn.Linear(7, 4))
    with pytest.raises(
        ModelError, match=r"It has 1000 outputs and 4 classes were expected: .* audit train --pretrained"
    ):
        load_matching(net, more.state_dict(), checkpoint="imagenet.pth", architecture="net")
    with pytest.raises(ModelError, match="Give the architecture it was trained with"):
        load_matching(net, wider.state_dict(), checkpoint="wider.pth", architecture="net")
