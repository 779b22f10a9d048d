from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.core.errors import ModelError, NotApplicable
from audit.models.detectors.build import DetectorClasses
from audit.models.detectors.onnx_form import read_onnx_detector
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import DETECTED, DETECTOR_SHAPE, noise_images, some_objects

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CLASSES, POINTS = len(DETECTED), 48  # 48x64 pixels in blocks of 8


def write_raw(path: Path, *, objectness: bool, batch: int | str = "n", turned: bool = False, odd: bool = False) -> Path:
    """A YOLO-like net: one convolution of blocks, middles and sides in pixels, scores through a sigmoid."""
    make, numpy = onnx.helper.make_node, onnx.numpy_helper
    wide = 4 + objectness + CLASSES
    draw = np.random.default_rng(0)
    values = {
        "weight": draw.normal(0, 0.2, (wide, 3, 8, 8)).astype(np.float32),
        "bias": np.concatenate([np.full(4, 0.5), np.zeros(wide - 4)]).astype(np.float32),
        "flat": np.array([0, wide, POINTS], np.int64),
        "zero": np.array([0], np.int64),
        "four": np.array([4], np.int64),
        "end": np.array([wide], np.int64),
        "axis": np.array([1], np.int64),
        "scale": np.array([[[30], [20], [8], [8]]], np.float32),
    }
    nodes = [
        make("Conv", ["images", "weight", "bias"], ["blocks"], strides=[8, 8]),
        make("Reshape", ["blocks", "flat"], ["rows"]),
        make("Slice", ["rows", "zero", "four", "axis"], ["plain"]),
        make("Abs", ["plain"], ["positive"]),
        make("Mul", ["positive", "scale"], ["boxes"]),
        make("Slice", ["rows", "four", "end", "axis"], ["logits"]),
        make("Erf" if odd else "Sigmoid", ["logits"], ["sure"]),
        make("Concat", ["boxes", "sure"], ["output" if not (objectness or turned) else "joined"], axis=1),
    ]
    shape: list[Any] = [batch, wide, POINTS]
    if objectness or turned:
        nodes.append(make("Transpose", ["joined"], ["output"], perm=[0, 2, 1]))
        shape = [batch, POINTS, wide]
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "yolo",
        [onnx.helper.make_tensor_value_info("images", kind, [batch, *DETECTOR_SHAPE])],
        [onnx.helper.make_tensor_value_info("output", kind, shape)],
        [numpy.from_array(value, name) for name, value in values.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def write_constant(path: Path, outputs: dict[str, np.ndarray]) -> Path:
    """A net that answers the same to every image."""
    make = onnx.helper.make_node
    nodes = [make("ReduceMean", ["images"], ["mean"], keepdims=0), make("Sub", ["mean", "mean"], ["zero"])]
    infos = []
    for name, value in outputs.items():
        to = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        nodes += [make("Cast", ["zero"], [f"{name}_0"], to=to), make("Add", [f"{name}_c", f"{name}_0"], [name])]
        infos.append(onnx.helper.make_tensor_value_info(name, to, list(value.shape)))
    graph = onnx.helper.make_graph(
        nodes,
        "constant",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, *DETECTOR_SHAPE])],
        infos,
        [onnx.numpy_helper.from_array(value, f"{name}_c") for name, value in outputs.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def wrap(path: Path, classes: tuple[str, ...] = DETECTED) -> DetectorUnderTest:
    form = read_onnx_detector(path, DetectorClasses(classes), DETECTOR_SHAPE)
    return DetectorUnderTest(form, classes=classes, input_shape=DETECTOR_SHAPE, device="cpu")


def answers_of(path: Path, images: torch.Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(np.concatenate([session.run(None, {"images": one[None]})[0] for one in images.numpy()]))


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize(("objectness", "turned"), [(True, False), (False, False), (False, True)])
def test_raw_outputs_of_yolo_are_read_in_each_of_their_forms(
    objectness: bool, turned: bool, batch: int | str, tmp_path: Path
) -> None:
    path = write_raw(tmp_path / "net.onnx", objectness=objectness, turned=turned, batch=batch)
    detector, images = wrap(path), noise_images(3)
    own = answers_of(path, images)
    own = own if objectness or turned else own.transpose(0, 2, 1)
    scores = own[..., 5:] * own[..., 4:5] if objectness else own[..., 4:]
    corners = np.concatenate([own[..., :2] - own[..., 2:4] / 2, own[..., :2] + own[..., 2:4] / 2], -1)
    for row, some in enumerate(detector.candidates(images)):
        assert np.allclose(some.scores.numpy(), scores[row], atol=1e-4)
        assert np.allclose(some.boxes.numpy(), corners[row], atol=1e-2)
    found = detector.detect(images)[0]
    assert 0 < len(found) <= 100 and float(found.scores[0]) == pytest.approx(scores[0].max(), abs=1e-4)
    assert not detector.gives_losses and detector.gives_gradients
    value = detector.candidate_gradient(images, lambda some, rows: torch.stack([one.scores.max() for one in some]))
    assert (value.gradient.flatten(1).norm(dim=1) > 0).all()
    with pytest.raises(NotApplicable):
        detector.losses(images, some_objects(1, 1, 0))


@pytest.mark.parametrize("kind", ["six", "four"])
def test_a_file_that_suppresses_inside_is_a_black_box(kind: str, tmp_path: Path) -> None:
    corners = np.array([[[1, 2, 11, 12], [20, 20, 40, 30], [0, 0, 0, 0]]], np.float32)
    scores, labels = np.array([[0.9, 0.4, 0.0]], np.float32), np.array([[2, 0, 0]], np.float32)
    if kind == "six":
        outputs = {"out": np.concatenate([corners, scores[..., None], labels[..., None]], 2)}
    else:
        outputs = {
            "num": np.array([[2]], np.int32), "boxes": corners, "scores": scores, "labels": labels.astype(np.int32)
        }  # fmt: skip
    detector = wrap(write_constant(tmp_path / "net.onnx", outputs))
    found = detector.detect(noise_images(2))[1]
    assert found.boxes.tolist() == [[1, 2, 11, 12], [20, 20, 40, 30]]
    assert found.labels.tolist() == [2, 0] and found.scores.tolist() == pytest.approx([0.9, 0.4])
    assert not (detector.gives_losses or detector.gives_candidates or detector.gives_gradients)


def test_an_operator_that_is_not_converted_leaves_the_runtime_and_a_note(tmp_path: Path) -> None:
    path = write_constant(
        tmp_path / "net.onnx", {"out": np.random.default_rng(0).random((1, 50, 7)).astype(np.float32)}
    )
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "ReduceLogSumExp"
    onnx.save(model, str(path))
    detector = wrap(path)
    assert len(detector.candidates(noise_images(2))) == 2
    if not detector.gives_gradients:
        assert any(note.key == "detector_onnx_no_gradients" for note in detector.notes)


def test_an_unknown_form_lists_its_outputs_and_the_known_ones(tmp_path: Path) -> None:
    path = write_constant(tmp_path / "net.onnx", {"feature": np.zeros((1, 24, 6, 8), np.float32)})
    with pytest.raises(ModelError, match=r"feature \(1, 24, 6, 8\).*YOLOv8.*FILE\.py:FUNCTION"):
        wrap(path)
    path = write_raw(tmp_path / "net.onnx", objectness=False)
    with pytest.raises(ModelError, match="for 5 classes"):
        wrap(path, classes=("a", "b", "c", "d", "e"))


def test_another_image_size_is_refused(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "net.onnx", objectness=False)
    with pytest.raises(ModelError, match="takes images of 3x48x64, not 3x64x64"):
        read_onnx_detector(path, DetectorClasses(DETECTED), (3, 64, 64))
