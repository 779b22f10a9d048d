"""ONNX files as people bring them: each answers as onnxruntime does, or one sentence says why not and what to do."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.models.outputs import to_logits
from audit.models.under_test import ModelUnderTest
from tests.models.onnx_models import (
    TensorProto,
    close,
    head,
    helper,
    load,
    module_of,
    node,
    notes_of,
    numpy_helper,
    onnx,
    pictures,
    runtime_answer,
    weights,
    write,
)

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

KERNEL = {"kernel": weights(1, 4, 3, 3, 3)}
CONV = [node("Conv", "x kernel", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "f")]


def plain(path: Path, **options: Any) -> Path:
    end, dense = head()
    return write(path, [*CONV, *end], {**KERNEL, **dense}, **options)


class SmallNet(nn.Module):
    """Everything that the exporters of torch 2.14 write in another way than those of old."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.norm, self.dense = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        tokens = nn.functional.gelu(torch.cat([b, a * torch.sigmoid(b)], 1)).flatten(2).transpose(1, 2)[:, None]
        tokens = nn.functional.scaled_dot_product_attention(tokens, tokens, self.norm(tokens))
        return self.dense(tokens[:, 0].mean(1))  # type: ignore[no-any-return]


def test_a_default_export_of_torch_loads_with_its_weights_in_a_second_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = SmallNet().eval(), tmp_path / "net.onnx"
    torch.onnx.export(net, (pictures(1),), str(path), verbose=False)
    assert (tmp_path / "net.onnx.data").is_file()
    content = load(path)
    assert content.module is not None and len(content.companions) == 1
    assert torch.allclose(content.module(pictures()), net(pictures()), atol=1e-6)


@pytest.mark.parametrize("opset", range(7, 24))
def test_files_of_every_opset_from_7_load(opset: int, tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx", opset=opset, ir_version=4)
    assert close(module_of(path)(pictures()), runtime_answer(path, pictures()))


def test_a_file_from_before_opset_7_is_held_against_its_modern_form(tmp_path: Path) -> None:
    expected = module_of(plain(tmp_path / "plain.onnx"))(pictures())
    path = plain(tmp_path / "net.onnx", opset=6, ir_version=4)
    proto = onnx.load(str(path))
    proto.graph.node[-1].attribute.append(helper.make_attribute("broadcast", 1))
    onnx.save(proto, str(path))
    assert torch.equal(module_of(path)(pictures()), expected)


def attention(batch: int) -> tuple[list[Any], dict[str, np.ndarray]]:
    """A class token, and attention with the batch between tokens and features, its size written into every reshape."""
    target = {
        "rows": [17 * batch, 4],
        "qkv": [17, batch, 3, 4],
        "heads": [17, batch * 2, 2],
        "merged": [17 * batch, 4],
        "back": [17, batch, 4],
        "flat": [batch, 4, 16],
    }
    constants = {name: np.array(sizes, np.int64) for name, sizes in target.items()}
    constants |= {"token": np.repeat(weights(2, 1, 1, 4), batch, 0), "w": weights(3, 4, 12), "o": weights(4, 4, 5)}
    constants |= {name: np.array(value, np.int64) for name, value in {"zero": 0, "one": 1, "two": 2}.items()}
    nodes = [
        node("Conv", "x kernel", "c", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Reshape", "c flat", "patches"),
        node("Transpose", "patches", "tokens", perm=[0, 2, 1]),
        node("Concat", "token tokens", "all", axis=1),
        node("Transpose", "all", "t", perm=[1, 0, 2]),
        node("Reshape", "t rows", "r"),
        node("MatMul", "r w", "p"),
        node("Reshape", "p qkv", "packed"),
        *[
            part
            for name, place in (("q", "zero"), ("k", "one"), ("v", "two"))
            for part in (
                node("Gather", f"packed {place}", f"{name}0", axis=2),
                node("Reshape", f"{name}0 heads", f"{name}1"),
                node("Transpose", f"{name}1", name, perm=[1, 0, 2]),
            )
        ],
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "weights", axis=-1),
        node("MatMul", "weights v", "mixed"),
        node("Transpose", "mixed", "mt", perm=[1, 0, 2]),
        node("Reshape", "mt merged", "m"),
        node("Reshape", "m back", "b"),
        node("Gather", "b zero", "first", axis=0),
        node("MatMul", "first o", "y"),
    ]
    return nodes, {**KERNEL, **constants}


def expected_one_by_one(path: Path, images: Tensor, batch: int) -> Tensor:
    rows = [runtime_answer(path, row[None].expand(batch, *row.shape).contiguous())[:1] for row in images]
    return torch.cat(rows)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_for_one_batch_size_takes_any(batch: int, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", *attention(batch), shape=(batch, 3, 8, 8), outputs={"y": (1, (batch, 5))})
    module = module_of(path)
    assert module.largest_batch == 0
    assert close(module(pictures(7)), expected_one_by_one(path, pictures(7), batch))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_that_needs_its_batch_size_is_asked_in_such_batches_and_says_so(batch: int, tmp_path: Path) -> None:
    end, dense = head("g")
    nodes = [
        *CONV,
        node("Reshape", "f row", "r"),
        node("Gather", "r places", "a"),
        node("Reshape", "a sizes", "g"),
        *end,
    ]
    constants = {
        "row": np.array([-1], np.int64),
        "places": np.arange(256 * batch).reshape(batch, 256)[:, ::-1].reshape(batch * 4, 64),
        "sizes": np.array([batch, 4, 8, 8], np.int64),
    }
    shape = (batch, 3, 8, 8)
    path = write(
        tmp_path / "net.onnx", nodes, {**KERNEL, **dense, **constants}, shape=shape, outputs={"y": (1, (batch, 5))}
    )
    images = pictures(6)
    module = module_of(path)
    assert module.largest_batch == batch
    assert close(module(images), expected_one_by_one(path, images, batch))
    assert ("one image at a time" if batch == 1 else "4 images at a time") in notes_of(path)


def test_a_net_whose_answers_depend_on_the_batch_is_asked_one_image_at_a_time(tmp_path: Path) -> None:
    end, dense = head("g")
    nodes = [*CONV, node("DynamicQuantizeLinear", "f", "q s z"), node("DequantizeLinear", "q s z", "g"), *end]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, **dense})
    images = pictures() * torch.tensor([1.0, 0.1, 0.5])[:, None, None, None]
    module = module_of(path)
    assert module.largest_batch == 1 and "gradients pass straight through" in notes_of(path)
    assert close(module(images), torch.cat([runtime_answer(path, row[None]) for row in images]), 1e-4)


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), ("n", "c", "h", "w"), (1, 3, "h", "w"), (None,) * 4])
def test_files_for_images_of_any_size_load(shape: tuple[Any, ...], tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx", shape=shape)
    images = pictures(size=12)
    expected = torch.cat([runtime_answer(path, row[None]) for row in images])
    assert close(module_of(path)(images), expected)


@pytest.mark.parametrize(
    ("wanted", "given", "remedy"), [(3, 1, r"Give images of 3 channels\.$"), (1, 3, r"Read them with --grayscale\.$")]
)
def test_images_of_other_channels_than_the_file_s_are_not_told_to_change_their_size(
    wanted: int, given: int, remedy: str, tmp_path: Path
) -> None:
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat w", "y")]
    path = write(tmp_path / "net.onnx", nodes, {"w": weights(1, 64 * wanted, 5)}, shape=("n", wanted, 8, 8))
    with pytest.raises(ModelError, match=remedy):
        module_of(path)(pictures(channels=given))


def test_an_image_in_a_row_of_numbers_whose_order_is_not_said_is_refused_for_that(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("MatMul", "x w", "y")], {"w": weights(1, 192, 5)}, shape=("n", 192))
    with pytest.raises(ModelError, match=r"192 numbers of an image in a row.*takes \(N, C, H, W\)"):
        module_of(path)(pictures())


def test_images_of_another_size_than_the_file_s_get_a_sentence(tmp_path: Path) -> None:
    nodes = [*CONV, node("Flatten", "f", "flat"), node("MatMul", "flat w", "y")]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, "w": weights(3, 256, 5)})
    with pytest.raises(
        ModelError, match=r"exported for images of 3x8x8, and does not run on images of 3x12x12.*--image-size"
    ):
        module_of(path)(pictures(size=12))
    end, dense = head("g")
    tensorflow = [*CONV, node("Conv", "f k", "g", strides=[2, 2], auto_pad="SAME_UPPER"), *end]
    path = write(tmp_path / "tf.onnx", tensorflow, {**KERNEL, **dense, "k": weights(3, 4, 4, 3, 3)})
    with pytest.raises(ModelError, match="does not run on images of 3x9x9"):
        module_of(path)(pictures(size=9))


def turned(scale: list[Any], source: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    end, dense = head()
    nodes = [*scale, node("Transpose", source, "t", perm=[0, 3, 1, 2])]
    nodes += [node("Conv", "t kernel", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "f"), *end]
    return nodes, {**KERNEL, **dense}


def test_a_file_of_8_bit_pixels_and_channels_last_gets_them(tmp_path: Path) -> None:
    nodes, constants = turned([node("Cast", "x", "s", to=1)], "s")
    path = write(tmp_path / "net.onnx", nodes, constants, shape=("n", 8, 8, 3), kind=TensorProto.UINT8)
    expected = runtime_answer(path, (pictures() * 255).round().byte().permute(0, 2, 3, 1).contiguous())
    assert close(module_of(path)(pictures()), expected)
    assert "multiplied by 255" in notes_of(path) and "channels last" in notes_of(path)
    leaf = pictures().requires_grad_()
    assert torch.autograd.grad(module_of(path)(leaf).sum(), leaf)[0].abs().sum() > 0


RESCALING: dict[str, tuple[Any, dict[str, float | list[float]]]] = {
    "divides by 255": (node("Div", "x a", "s"), {"a": 255.0}),
    "multiplies by 1/255": (node("Mul", "a x", "s"), {"a": 1 / 255}),
    "multiplies by 1/127.5": (node("Mul", "x a", "s"), {"a": 1 / 127.5}),
    "subtracts a mean of 8 bits": (node("Sub", "x a", "s"), {"a": [103.9, 116.8, 123.7]}),
    "divides by a deviation": (node("Div", "x a", "s"), {"a": 0.25}),
    "subtracts a mean of [0, 1]": (node("Sub", "x a", "s"), {"a": [0.48, 0.45, 0.4]}),
    "doubles": (node("Mul", "x a", "s"), {"a": 2.0}),
}


@pytest.mark.parametrize("name", RESCALING)
def test_a_file_that_rescales_pixels_of_0_to_255_itself_gets_them(name: str, tmp_path: Path) -> None:
    first, numbers = RESCALING[name]
    nodes, constants = turned([first], "s")
    constants |= {key: np.array(value, np.float32) for key, value in numbers.items()}
    path = write(tmp_path / "net.onnx", nodes, constants, shape=("n", 8, 8, 3))
    scale = 1 if name in ("divides by a deviation", "subtracts a mean of [0, 1]", "doubles") else 255
    expected = runtime_answer(path, (pictures() * scale).permute(0, 2, 3, 1).contiguous())
    assert close(module_of(path)(pictures()), expected, 1e-4)
    assert ("multiplied by 255" in notes_of(path)) == (scale == 255)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_weights_of_other_precision_load_and_have_gradients(kind: int, tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    expected = module_of(path)(pictures())
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, values.shape, values.flatten().tolist()))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    onnx.save(proto, str(path))
    module, leaf = module_of(path), pictures().requires_grad_()
    assert close(module(leaf).float(), expected, 1e-6 if kind == TensorProto.DOUBLE else 2e-2)
    assert torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)[0].abs().sum() > 0
    assert ("16 bits" in notes_of(path)) == (kind != TensorProto.DOUBLE)


def quantised(path: Path, integer: bool) -> Path:
    """Convolution between 8-bit numbers: between quantise and dequantise, or as one operator on whole numbers."""
    rows, kernel = np.float32(0.02), weights(1, 4, 3, 3, 3)
    whole = np.clip(np.round(kernel / rows), -127, 127).astype(np.int8)
    constants = {
        "sx": np.float32(1 / 255),
        "zx": np.uint8(0),
        "sk": np.full(4, rows),
        "zk": np.zeros(4, np.int8),
        "sy": np.float32(0.05),
        "zy": np.uint8(128),
        "whole": whole,
    }
    first = node("QuantizeLinear", "x sx zx", "q")
    last = node("DequantizeLinear", "c sy zy", "f")
    middle = [node("QLinearConv", "q sx zx whole sk zk sy zy", "c", pads=[1] * 4)]
    if not integer:
        middle = [
            node("DequantizeLinear", "q sx zx", "xr"),
            node("DequantizeLinear", "whole sk zk", "kr", axis=0),
            node("Conv", "xr kr", "cr", pads=[1] * 4),
            node("QuantizeLinear", "cr sy zy", "c"),
        ]
    end, dense = head()
    return write(path, [first, *middle, last, *end], {**constants, **dense}, opset=13)


@pytest.mark.parametrize("integer", [False, True])
def test_quantised_files_answer_with_rounding_and_have_gradients_through_it(integer: bool, tmp_path: Path) -> None:
    path = quantised(tmp_path / "net.onnx", integer)
    module, leaf = module_of(path), pictures().requires_grad_()
    assert close(module(leaf), runtime_answer(path, pictures()), 5e-3)
    gradient = torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)[0]
    smooth = nn.functional.conv2d(pictures().requires_grad_(), torch.from_numpy(weights(1, 4, 3, 3, 3)), padding=1)
    assert gradient.abs().sum() > 0 and smooth.shape == (3, 4, 8, 8)
    assert "gradients pass straight through the rounding" in notes_of(path)


def test_a_net_that_clips_its_input_first_loads(tmp_path: Path) -> None:
    end, dense = head()
    nodes = [node("Clip", "x low high", "b"), node("Conv", "b kernel", "c", pads=[1] * 4), node("Relu", "c", "f"), *end]
    constants = {**KERNEL, **dense, "low": np.float32(0), "high": np.float32(1)}
    path = write(tmp_path / "net.onnx", nodes, constants)
    assert close(module_of(path)(pictures()), runtime_answer(path, pictures()))


ENDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "ArgMax": ([node("ArgMax", "y", "label", axis=1, keepdims=0)], {"label": (TensorProto.INT64, ("n",))}),
    "ArgMax of a softmax": (
        [node("Softmax", "y", "p", axis=1), node("ArgMax", "p", "i", axis=1), node("Cast", "i", "label", to=1)],
        {"label": (TensorProto.FLOAT, ("n", 1))},
    ),
    "TopK": (
        [node("TopK", "y count", "best label", axis=1)],
        {"best": (TensorProto.FLOAT, ("n", 2)), "label": (TensorProto.INT64, ("n", 2))},
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_of_a_file_that_ends_in_a_decision_the_scores_are_used(name: str, tmp_path: Path) -> None:
    end, dense = head()
    nodes, outputs = ENDS[name]
    constants = {**KERNEL, **dense, "count": np.array([2], np.int64)}
    path = write(tmp_path / "net.onnx", [*CONV, *end, *nodes], constants, outputs=outputs)
    scores = runtime_answer(plain(tmp_path / "plain.onnx"), pictures())
    expected = scores.softmax(1) if "softmax" in name else scores
    assert close(module_of(path)(pictures()), expected, 1e-5)
    assert f"ends in {name.split()[0]}" in notes_of(path)


def test_labels_beside_probabilities_in_a_map_are_left_out(tmp_path: Path) -> None:
    end, dense = head()
    nodes = [
        *CONV,
        *end,
        node("Softmax", "y", "p", axis=1),
        node("ArgMax", "p", "i", axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", ["names", "i"], ["label"], domain="ai.onnx.ml"),
        helper.make_node("ZipMap", ["p"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3, 4]),
    ]
    path = write(
        tmp_path / "net.onnx",
        nodes,
        {**KERNEL, **dense, "names": np.arange(5)},
        outputs={"label": (TensorProto.INT64, (None,))},
        opset=13,
        imports=[helper.make_opsetid("ai.onnx.ml", 1)],
    )
    proto = onnx.load(str(path))
    of_maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    proto.graph.output.append(helper.make_value_info("map", helper.make_sequence_type_proto(of_maps)))
    onnx.save(proto, str(path))
    expected = runtime_answer(plain(tmp_path / "plain.onnx"), pictures()).softmax(1)
    assert close(module_of(path)(pictures()), expected)
    assert "further outputs, which are not used: label" in notes_of(path)


def test_a_final_softmax_is_kept(tmp_path: Path) -> None:
    end, dense = head()
    nodes = [*CONV, *end, node("Softmax", "y", "p", axis=1)]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, **dense}, outputs={"p": (1, ("n", 5))})
    answer = module_of(path)(pictures())
    assert torch.allclose(answer.sum(1), torch.ones(3)) and to_logits(answer, "probabilities").isfinite().all()


def test_scores_are_found_beside_features_and_several_scores_are_given_by_name(tmp_path: Path) -> None:
    end, dense = head()
    nodes, constants = [*CONV, *end, node("Softmax", "y", "p", axis=1)], {**KERNEL, **dense}
    outputs: dict[str, Any] = {"f": (1, ("n", 4, 8, 8)), "y": (1, ("n", 5))}
    path = write(tmp_path / "net.onnx", nodes, constants, outputs=outputs)
    expected = runtime_answer(path, pictures(), "y")
    assert close(module_of(path)(pictures()), expected)
    path = write(tmp_path / "net.onnx", nodes, constants, outputs={**outputs, "p": (1, ("n", 5))})
    answers = module_of(path)(pictures())
    assert set(answers) == {"y", "p"} and close(answers["p"], expected.softmax(1))


def test_weights_listed_as_inputs_and_odd_names_are_no_matter(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    expected = module_of(path)(pictures())
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        proto.graph.input.insert(0, helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    names = {"f": "/features/0/Relu_output_0", "kernel": 'features.0.weight "', "x": "input:0", "flat": "import os"}
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.initializer):
        if hasattr(part, "op_type"):
            part.input[:] = [names.get(name, name) for name in part.input]
            part.output[:] = [names.get(name, name) for name in part.output]
            part.name = "/a/b.c:1"
        else:
            part.name = names.get(part.name, part.name)
    onnx.save(proto, str(path))
    assert torch.equal(module_of(path)(pictures()), expected)


def test_two_inputs_are_refused_by_name(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    proto = onnx.load(str(path))
    proto.graph.input.append(helper.make_tensor_value_info("length", TensorProto.INT64, [1]))
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match=r"takes 2 inputs \('x', 'length'\).*forward takes the images alone"):
        module_of(path)


def test_text_and_sequences_as_input_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("Identity", "x", "y")], shape=("n", 4, 4, 3, 2))
    with pytest.raises(ModelError, match="images of shape"):
        module_of(path)


def test_one_image_without_an_axis_for_the_batch_is_refused(tmp_path: Path) -> None:
    nodes = [node("Unsqueeze", "x axes", "u"), node("Conv", "u kernel", "f"), *head()[0]]
    constants = {**KERNEL, **head()[1], "axes": np.array([0], np.int64)}
    path = write(tmp_path / "net.onnx", nodes, constants, shape=(3, 8, 8), outputs={"y": (1, (1, 5))})
    with pytest.raises(ModelError, match="without an axis for the batch"):
        module_of(path)


def test_a_net_that_enlarges_its_images_first_takes_any_batch(tmp_path: Path) -> None:
    nodes = [node("Resize", "x - - sizes", "r", mode="linear"), node("Conv", "r kernel", "f"), *head()[0]]
    constants = {**KERNEL, **head()[1], "sizes": np.array([1, 3, 16, 16], np.int64)}
    path = write(tmp_path / "net.onnx", nodes, constants, shape=(1, 3, 8, 8), outputs={"y": (1, (1, 5))})
    assert module_of(path).largest_batch == 0
    assert close(module_of(path)(pictures()), expected_one_by_one(path, pictures(), 1))


@pytest.mark.parametrize("shape", [("n", 8, 8), ("n", 64)])
def test_files_without_an_axis_of_channels_take_grey_images_alone(shape: tuple[Any, ...], tmp_path: Path) -> None:
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat w", "y")]
    path = write(tmp_path / "net.onnx", nodes, {"w": weights(1, 64, 5)}, shape=shape)
    images = pictures(channels=1)
    assert close(module_of(path)(images), runtime_answer(path, images.reshape(3, *shape[1:])))
    with pytest.raises(ModelError, match="takes images without channels"):
        module_of(path)(pictures())


def test_a_newer_container_loads_and_newer_operators_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx", ir_version=99)
    assert close(module_of(path)(pictures()), module_of(plain(tmp_path / "plain.onnx"))(pictures()))
    path = plain(tmp_path / "net.onnx", opset=999)
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(ModelError, match=f"written in opset 999.*export the model with opset_version={newest}"):
        module_of(path)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    proto = onnx.load(str(path))
    onnx.save(proto, str(path), save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert close(module_of(path)(pictures()), module_of(plain(tmp_path / "plain.onnx"))(pictures()))
    data = tmp_path / "net.onnx.data"
    whole = data.read_bytes()
    data.unlink()
    with pytest.raises(ModelError, match=r"weights in the file 'net\.onnx\.data', which is not beside it"):
        module_of(path)
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"net\.onnx"):
        module_of(path)


def test_operators_that_onnx_defines_by_others_are_taken_apart(tmp_path: Path) -> None:
    end, dense = head("g")
    nodes = [*CONV, node("RMSNormalization", "f scale", "g", axis=1), *end]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, **dense, "scale": weights(5, 4, 8, 8)}, opset=23)
    assert close(module_of(path)(pictures()), runtime_answer(path, pictures()))


def test_functions_of_the_file_and_settled_branches_are_converted(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    expected = module_of(path)(pictures())
    proto = onnx.load(str(path))
    body = helper.make_function("own", "Act", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 20)])
    proto.functions.append(body)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    relu = next(n for n in proto.graph.node if n.op_type == "Relu")
    relu.op_type, relu.domain = "Act", "own"
    onnx.save(proto, str(path))
    assert torch.equal(module_of(path)(pictures()), expected)

    def branch(op: str) -> Any:
        out = helper.make_tensor_value_info("out_" + op, 1, None)
        return helper.make_graph([node(op, "c", "out_" + op)], op, [], [out])

    end, dense = head()
    nodes = [
        CONV[0],
        node("Shape", "c", "sizes"),
        node("Gather", "sizes one", "channels"),
        node("Equal", "channels four", "same"),
        node("If", "same", "f", then_branch=branch("Relu"), else_branch=branch("Neg")),
        *end,
    ]
    constants = {**KERNEL, **dense, "one": np.array(1, np.int64), "four": np.array(4, np.int64)}
    path = write(tmp_path / "if.onnx", nodes, constants)
    assert torch.equal(module_of(path)(pictures()), expected)


def test_shapes_that_were_edited_by_hand_do_not_matter(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx", shape=(1, 3, 8, 8), outputs={"y": (1, (1, 5))})
    proto = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, str(path))
    assert close(module_of(path)(pictures()), module_of(plain(tmp_path / "plain.onnx"))(pictures()))


def test_shapes_computed_in_the_graph_leave_a_net_that_can_be_traced(tmp_path: Path) -> None:
    nodes = [
        *CONV,
        node("Shape", "f", "sizes"),
        node("Gather", "sizes zero", "n"),
        node("Concat", "n rest", "target", axis=0),
        node("Reshape", "f target", "flat"),
        node("MatMul", "flat w", "y"),
    ]
    constants = {**KERNEL, "zero": np.array([0], np.int64), "rest": np.array([-1], np.int64), "w": weights(3, 256, 5)}
    path = write(tmp_path / "net.onnx", nodes, constants)
    module = module_of(path)
    traced = torch.fx.symbolic_trace(module)
    assert torch.equal(traced(pictures(5)), module(pictures(5)))
    assert not any("shape" in str(step.node.op).lower() and step.node.op != "Reshape" for step in module.net.steps)


def test_copies_are_independent_and_rows_do_not_depend_on_each_other(tmp_path: Path) -> None:
    module = module_of(plain(tmp_path / "net.onnx"))
    before, twin = module(pictures()).detach(), copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(module(pictures()), before) and not torch.equal(twin(pictures()), before)
    assert torch.allclose(torch.cat([module(row[None]) for row in pictures()]), before, atol=1e-6)
    assert {"conv_0.weight", "gemm_4.weight"} <= {name.split("layers.")[-1] for name, _ in module.named_parameters()}


def test_a_net_handed_to_another_process_runs_there(tmp_path: Path) -> None:
    module = module_of(plain(tmp_path / "net.onnx"))
    torch.save((module, pictures(), module(pictures()).detach()), tmp_path / "net.pt")
    program = """
import sys, torch
net, images, expected = torch.load(sys.argv[1], weights_only=False)
assert torch.equal(net(images), expected)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "net.pt")], check=True)


def test_without_onnxruntime_the_reference_decides_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit.models.formats import onnx_check, onnx_conversion

    real = onnx_check.import_module

    def absent(name: str) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name)

    path = plain(tmp_path / "net.onnx")
    assert "ONNX's reference" not in notes_of(path)
    monkeypatch.setattr(onnx_check, "import_module", absent)
    assert "compared with ONNX's reference, as onnxruntime" in notes_of(path)
    monkeypatch.setattr(onnx_conversion, "differs", lambda *_, **__: True)
    with pytest.raises(ModelError, match="install onnxruntime, which decides"):
        module_of(path)


def test_a_conversion_that_answers_otherwise_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.models.formats.onnx_layers import LAYER_MAKERS

    monkeypatch.setitem(LAYER_MAKERS, "Relu", lambda node: nn.LeakyReLU(0.5))
    with pytest.raises(ModelError, match="answers otherwise after its conversion to torch than in onnxruntime"):
        module_of(plain(tmp_path / "net.onnx"))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx")
    proto = onnx.load(str(path))
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, str(path))
    assert torch.equal(module_of(path)(pictures()), module_of(plain(tmp_path / "plain.onnx"))(pictures()))


def test_outputs_without_a_declared_shape_load(tmp_path: Path) -> None:
    path = plain(tmp_path / "net.onnx", outputs={"y": (1, None)})
    assert close(module_of(path)(pictures()), runtime_answer(path, pictures()))


def test_a_net_that_mixes_the_batch_answers_as_on_each_image_alone(tmp_path: Path) -> None:
    end, dense = head("g")
    nodes = [*CONV, node("ReduceMean", "f axes", "m"), node("Sub", "f m", "g"), *end]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, **dense, "axes": np.array([0, 2], np.int64)})
    images = pictures() * torch.tensor([1.0, 0.1, 0.5])[:, None, None, None]
    module = module_of(path)
    assert module.largest_batch == 1
    assert close(module(images), torch.cat([runtime_answer(path, row[None]) for row in images]), 1e-4)


def test_of_several_scores_the_logits_are_audited(tmp_path: Path) -> None:
    end, dense = head()
    nodes = [*CONV, *end, node("Softmax", "y", "p", axis=1)]
    path = write(tmp_path / "net.onnx", nodes, {**KERNEL, **dense}, outputs={"p": (1, ("n", 5)), "y": (1, ("n", 5))})
    audited = ModelUnderTest(module_of(path), classes=tuple("abcde"), input_shape=(3, 8, 8), device="cpu")
    assert close(audited.logits(pictures()), runtime_answer(path, pictures(), "y"))
