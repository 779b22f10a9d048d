"""ONNX and Keras files: the answers of the original, gradients that agree with it, and nothing that runs."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.config import ModelConfig, TrustConfig
from audit.core.errors import AuditError, ModelError, UntrustedError
from audit.models.architecture import build
from audit.models.load import load_model
from audit.models.loaded import LoadedModel
from audit.models.under_test import ModelUnderTest

CLASSES = tuple("abcde")
SHAPE = (3, 12, 12)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def net() -> nn.Module:
    return build("cnn-28", classes=5, input_shape=SHAPE, seed=3).eval()


def load(path: Path, **fields: Any) -> LoadedModel:
    config = ModelConfig(weights=str(path), **fields)
    return load_model(config, classes=CLASSES, input_shape=SHAPE, device="cpu", seed=0)


def wrapped(module: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(module, classes=CLASSES, input_shape=SHAPE, device="cpu")


def first_logit_sum(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def images(n: int = 3) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    return pytest.importorskip("onnx", reason="needs the extra onnx")


def exported(path: Path, module: nn.Module | None = None, **options: Any) -> Path:
    torch.onnx.export(module or net(), (images(1),), str(path), dynamo=False, **options)
    return path


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("batch", ["free", "one"])
def test_onnx_answers_and_gradients_are_the_originals(opset: int, batch: str, onnx: Any, tmp_path: Path) -> None:
    free = {"dynamic_axes": {"x": {0: "n"}}} if batch == "free" else {}
    loaded = load(exported(tmp_path / "net.onnx", input_names=["x"], opset_version=opset, **free))
    original, converted, labels = wrapped(net()), wrapped(loaded.module), torch.tensor([0, 4, 2])
    assert torch.allclose(converted.logits(images()), original.logits(images()), atol=1e-5)
    ours, theirs = (m.loss_gradient(images(), labels, first_logit_sum).gradient for m in (converted, original))
    assert torch.allclose(ours, theirs, atol=1e-5) and ours.abs().sum() > 0
    assert loaded.whole and loaded.origin == "net.onnx" and loaded.trusted == ()


class TurnedNet(nn.Module):
    """A net that takes channels last, as exports from TensorFlow do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x.permute(0, 3, 1, 2))
        return outputs


def test_an_onnx_file_of_channels_last_is_turned_and_said(onnx: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(TurnedNet(), (images(1).permute(0, 2, 3, 1),), str(path), dynamo=False)
    loaded = load(path)
    assert torch.allclose(wrapped(loaded.module).logits(images()), wrapped(net()).logits(images()), atol=1e-5)
    assert any("channels last" in str(note) for note in loaded.notes)


def test_names_in_an_onnx_file_never_become_code(onnx: Any, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    proto = onnx.load(str(exported(tmp_path / "net.onnx")))
    payload = f'x"), open({str(canary)!r}, "w"), ("'
    for i, node in enumerate(proto.graph.node):
        node.name = f"{payload}{i}"
    proto.graph.name = payload
    onnx.save(proto, str(tmp_path / "net.onnx"))
    loaded = load(tmp_path / "net.onnx")
    assert torch.allclose(wrapped(loaded.module).logits(images()), wrapped(net()).logits(images()), atol=1e-5)
    assert not canary.exists()


def external(onnx: Any, folder: Path, location: str) -> Path:
    proto = onnx.load(str(exported(folder / "plain.onnx")))
    (folder / "plain.onnx").unlink()
    path = folder / "net.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(proto, str(path))
    return path


def test_external_weights_beside_the_file_belong_to_its_identity(onnx: Any, tmp_path: Path) -> None:
    path = external(onnx, tmp_path, "weights.bin")
    first = load(path)
    assert torch.allclose(wrapped(first.module).logits(images()), wrapped(net()).logits(images()), atol=1e-5)
    body = bytearray((tmp_path / "weights.bin").read_bytes())
    body[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(body)
    assert load(path).identity != first.identity


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "inner/../../weights.bin", "link.bin"])
def test_external_weights_elsewhere_are_refused(location: str, onnx: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(onnx, folder, location)
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(UntrustedError, match="outside its own folder"):
        load(path)


def test_external_numbers_in_a_branch_of_a_function_are_refused_elsewhere(onnx: Any, tmp_path: Path) -> None:
    helper = onnx.helper
    proto = onnx.load(str(exported(tmp_path / "net.onnx")))
    number = onnx.TensorProto(name="number", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    number.external_data.add(key="location", value="../number.bin")
    constant = helper.make_node("Constant", [], ["inner"], value=number)
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("inner", 1, [1])])
    chosen = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    opset = [helper.make_opsetid("", 18)]
    proto.functions.append(helper.make_function("own", "Chosen", ["condition"], ["y"], [chosen], opset))
    onnx.save(proto, str(tmp_path / "net.onnx"))
    with pytest.raises(UntrustedError, match="outside its own folder"):
        load(tmp_path / "net.onnx")


def test_damaged_and_odd_onnx_files_get_a_sentence(onnx: Any, tmp_path: Path) -> None:
    path = exported(tmp_path / "net.onnx")
    body = path.read_bytes()
    for cut in (b"", b"no protobuf at all", body[: len(body) // 2]):
        path.write_bytes(cut)
        with pytest.raises(ModelError, match=r"net\.onnx"):
            load(path)
    proto = onnx.ModelProto.FromString(body)
    proto.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="not a valid ONNX file"):
        load(path)


@pytest.fixture(scope="module")
def keras() -> Any:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="needs the extra keras")


def tutorial(keras: Any, *extra: Any, scale: float | None = None) -> Any:
    """The classical Keras image net, small: its augmentation, its dropout and its softmax too."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            *([layers.Rescaling(scale)] if scale else []),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            *extra,
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(5, activation="softmax"),
        ]
    )


@pytest.fixture
def state_of_randomness() -> Any:
    """keras.utils.set_random_seed draws from every global generator there is."""
    states = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])


@pytest.mark.usefixtures("state_of_randomness")
@pytest.mark.parametrize("scale", [None, 1 / 255])
def test_the_tutorials_keras_net_is_audited_as_it_is(scale: float | None, keras: Any, tmp_path: Path) -> None:
    model = tutorial(keras, scale=scale)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(tmp_path / "net.keras")
    loaded = load(tmp_path / "net.keras")
    audited = wrapped(loaded.module)
    pixels = images().permute(0, 2, 3, 1) * (255 if scale else 1)
    expected = model(pixels, training=False).detach()
    assert audited.output_kind == "probabilities"
    assert torch.allclose(audited.logits(images()).exp(), expected, atol=1e-5)
    assert audited.loss_gradient(images(), torch.tensor([0, 1, 2]), first_logit_sum).gradient.abs().sum() > 0
    assert any("0 to 255" in str(note) for note in loaded.notes) == bool(scale)


@pytest.mark.usefixtures("state_of_randomness")
@pytest.mark.parametrize(("mean", "spread", "scale"), [(120.0, 60.0, 255), (0.5, 0.2, 1)])
def test_a_keras_net_that_normalises_bytes_gets_pixels_of_bytes(
    mean: float, spread: float, scale: int, keras: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    normalised = layers.Normalization(mean=[mean] * 3, variance=[spread**2] * 3)
    model = keras.Sequential([keras.Input((12, 12, 3)), normalised, layers.Flatten(), layers.Dense(5)])
    model.save(tmp_path / "net.keras")
    loaded = load(tmp_path / "net.keras")
    expected = model(images().permute(0, 2, 3, 1) * scale, training=False).detach()
    assert torch.allclose(wrapped(loaded.module).logits(images()), expected, atol=1e-4)
    assert any("0 to 255" in str(note) for note in loaded.notes) == (scale == 255)


@pytest.mark.usefixtures("state_of_randomness")
@pytest.mark.parametrize(("shift", "spread", "scale"), [(0.0, 255.0, 255), (127.5, 127.5, 255), (0.5, 0.5, 1)])
def test_a_keras_net_that_computes_without_layers_needs_no_trust(
    shift: float, spread: float, scale: int, keras: Any, tmp_path: Path
) -> None:
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3)((inputs - shift) / spread if shift else inputs / spread)
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.ops.mean(keras.ops.relu(x), axis=(1, 2))))
    model.save(tmp_path / "net.keras")
    loaded = load(tmp_path / "net.keras")
    expected = model(images().permute(0, 2, 3, 1) * scale, training=False).detach()
    assert torch.allclose(wrapped(loaded.module).logits(images()), expected, atol=1e-5)
    assert any("0 to 255" in str(note) for note in loaded.notes) == (scale == 255)


@pytest.mark.usefixtures("state_of_randomness")
def test_a_copied_keras_net_has_the_same_names_and_weights_of_its_own(keras: Any, tmp_path: Path) -> None:
    tutorial(keras).save(tmp_path / "net.keras")
    first, second = load(tmp_path / "net.keras").module, load(tmp_path / "net.keras").module
    assert wrapped(first).fingerprint() == wrapped(second).fingerprint()
    before = first(images()).detach()
    twin = copy.deepcopy(first)
    twin.load_state_dict(second.state_dict())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(first(images()), before)


@pytest.mark.usefixtures("state_of_randomness")
def test_a_functional_keras_net_loads(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2")(inputs)
    x = keras.layers.Add()([x, keras.layers.DepthwiseConv2D(3, padding="same")(x)])
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))))
    model.save(tmp_path / "net.keras")
    expected = model(images().permute(0, 2, 3, 1)).detach()
    assert torch.allclose(wrapped(load(tmp_path / "net.keras").module).logits(images()), expected, atol=1e-5)


def rewritten(source: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(source, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)


def layer(whole: dict[str, Any], **fields: Any) -> None:
    whole["config"]["layers"][1].update(fields)


CODE: Mapping[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a Lambda": (lambda c: layer(c, class_name="Lambda"), "keras.layers.Lambda"),
    "a function of the system": (
        lambda c: layer(c, module="os", class_name="function", config="system", registered_name="system"),
        "os.function",
    ),
    "a class of another package": (lambda c: layer(c, module="torch.hub", class_name="load"), "torch.hub.load"),
    "a registered class": (lambda c: layer(c, registered_name="Custom>Flip"), "keras.layers.RandomFlip"),
    "a layer that reads files": (lambda c: layer(c, class_name="StringLookup"), "StringLookup"),
    "a download in an initialiser": (
        lambda c: c["config"]["layers"][2]["config"]["kernel_initializer"].update(
            module="keras.utils", class_name="get_file"
        ),
        "keras.utils.get_file",
    ),
}


@pytest.mark.usefixtures("state_of_randomness")
@pytest.mark.parametrize("case", CODE)
def test_a_keras_file_that_asks_for_code_is_refused(case: str, keras: Any, tmp_path: Path) -> None:
    change, message = CODE[case]
    tutorial(keras).save(tmp_path / "net.keras")
    rewritten(tmp_path / "net.keras", change)
    with pytest.raises(UntrustedError, match=message):
        load(tmp_path / "net.keras")


@pytest.mark.usefixtures("state_of_randomness")
def test_a_keras_lambda_runs_only_when_trusted(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    tutorial(keras, keras.layers.Lambda(lambda x: x * 2)).save(path)
    with pytest.raises(UntrustedError, match="Lambda"):
        load(path)
    loaded = load(path, trust=(TrustConfig(path=str(path)),))
    assert loaded.trusted[0]["path"] == "net.keras"
    assert wrapped(loaded.module).logits(images()).shape == (3, 5)


@pytest.mark.usefixtures("state_of_randomness")
def test_weights_linked_from_another_file_are_refused(keras: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net.keras"
    tutorial(keras).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = tmp_path / "w.h5"
    inner.write_bytes(members["model.weights.h5"])
    with h5py.File(inner, "a") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/hostname", "x")
    members["model.weights.h5"] = inner.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    with pytest.raises(UntrustedError, match="linked from elsewhere"):
        load(path)


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("net.h5", b"\x89HDF\r\n\x1a\n", UntrustedError),
        ("net.keras", b"no zip", ModelError),
        ("net.keras", b"", ModelError),
    ],
)
def test_old_and_damaged_keras_files_get_a_sentence(
    name: str, body: bytes, kind: type[AuditError], keras: Any, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(kind, match=name.replace(".", r"\.")):
        load(tmp_path / name)
