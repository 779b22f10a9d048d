"""Verification instances against exact minima: sat just inside, unsat just outside."""

from __future__ import annotations

import gzip
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import onnx
import pytest
import torch
from onnx import helper
from onnx_nets import exact_minimum, property_text, random_layers, write_net

from audit.bounds import input_splitting, verification
from audit.bounds.region import Region
from audit.bounds.verification import VerificationResult, verify_instance
from audit.bounds.verification_query import BoxQuery, Counterexample
from audit.core.errors import DataError, ModelError, SetupError

LOW, HIGH = [-0.8, -1.0, 0.1], [0.9, 1.0, 0.7]


def decide(tmp_path: Path, net: Path, text: str, seconds: float = 60.0) -> VerificationResult:
    specification = tmp_path / "property.vnnlib"
    specification.write_text(text)
    return verify_instance(net, specification, seconds=seconds)


def answer(net: Path, inputs: Sequence[float], shape: Sequence[int]) -> numpy.ndarray:
    from onnx.reference import ReferenceEvaluator

    values = numpy.array(inputs, dtype="float32").reshape(shape)
    outputs: numpy.ndarray = ReferenceEvaluator(onnx.load(str(net))).run(None, {"X": values})[0]
    return outputs.flatten()


def expect_inside(found: Counterexample | None, low: Sequence[float], high: Sequence[float]) -> Counterexample:
    assert found is not None
    assert all(a <= value <= b for a, value, b in zip(low, found.inputs, high, strict=True))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_few_inputs_are_sat_just_inside_and_unsat_just_outside(tmp_path: Path, seed: int) -> None:
    layers = random_layers([3, 10, 2], seed)
    net = write_net(tmp_path / "net.onnx", layers, [1, 3])
    minimum = exact_minimum(layers, LOW, HIGH, [1, -1])
    outside = property_text(LOW, HIGH, 2, f"(assert (<= (- Y_0 Y_1) {minimum - 2e-3}))")
    inside = property_text(LOW, HIGH, 2, f"(assert (<= (- Y_0 Y_1) {minimum + 2e-3}))")
    assert decide(tmp_path, net, outside).verdict == "unsat"
    result = decide(tmp_path, net, inside)
    assert result.verdict == "sat"
    found = expect_inside(result.counterexample, LOW, HIGH)
    outputs = answer(net, found.inputs, [1, 3])
    assert outputs[0] - outputs[1] <= minimum + 2e-3 + 1e-6
    assert numpy.allclose(outputs, found.outputs, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_many_inputs_are_sat_just_inside_and_unsat_just_outside(tmp_path: Path, seed: int) -> None:
    layers = random_layers([24, 8, 3], seed)
    net = write_net(tmp_path / "net.onnx", layers, [1, 4, 6])
    low, high = [0.2] * 24, [0.6] * 24
    minimum = exact_minimum(layers, low, high, [1, -1, 0])
    outside = property_text(low, high, 3, f"(assert (<= (+ Y_0 (* -1 Y_1)) {minimum - 5e-3}))")
    inside = property_text(low, high, 3, f"(assert (<= (+ Y_0 (* -1 Y_1)) {minimum + 5e-3}))")
    assert decide(tmp_path, net, outside).verdict == "unsat"
    assert decide(tmp_path, net, inside).verdict == "sat"


@pytest.mark.parametrize("inputs", [3, 24])
def test_a_conjunction_is_unsat_though_each_of_its_constraints_can_be_met(tmp_path: Path, inputs: int) -> None:
    """y_0 = |sum of x|, y_1 = 1 - |sum of x|: neither bound can be proven impossible on the whole box."""
    ones = numpy.ones((inputs, 1), "float32")
    second = numpy.array([[1, -1], [1, -1]], "float32")
    layers = [
        (numpy.hstack([ones, -ones]), numpy.zeros(2, "float32")),
        (second, numpy.array([0, 1], "float32")),
    ]
    net = write_net(tmp_path / "net.onnx", layers, ["batch", inputs])
    low, high = [-1 / inputs] * inputs, [1 / inputs] * inputs
    for limit, verdict in ((0.51, "unsat"), (0.49, "sat")):
        text = property_text(low, high, 2, f"(assert (>= Y_0 {limit}))\n(assert (>= Y_1 {limit}))")
        assert decide(tmp_path, net, text).verdict == verdict
        each = property_text(low, high, 2, f"(assert (or (and (>= Y_0 {limit})) (and (>= Y_1 {limit}))))")
        assert decide(tmp_path, net, each).verdict == "sat"


def test_boxes_that_are_joined_by_or_are_each_searched(tmp_path: Path) -> None:
    identity = [(numpy.eye(2, dtype="float32"), numpy.zeros(2, "float32"))]
    net = write_net(tmp_path / "net.onnx", identity, [1, 1, 1, 2])
    boxes = "(assert (or (and (<= X_0 0.1) (>= X_0 0)) (and (<= X_0 {0}) (>= X_0 0.5) (>= Y_1 {1}))))"
    common = "\n".join(
        [*(f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2)), "(assert (and (<= X_1 1.) (>= X_1 -1e0)))"]
    )
    condition = "\n(assert (>= Y_0 0.8))\n"
    assert decide(tmp_path, net, common + boxes.format(0.9, 0.5) + condition).verdict == "sat"
    assert decide(tmp_path, net, common + boxes.format(0.75, 0.5) + condition).verdict == "unsat"
    assert decide(tmp_path, net, common + boxes.format(0.9, 1.5) + condition).verdict == "unsat"


@pytest.mark.parametrize("shape", [[3], [1, 3], [1, 1, 1, 3], [1, 1, 1, 1, 3], [1, 3, 1], ["n", 3], [1, 1, 3]])
def test_inputs_of_every_shape_are_taken(tmp_path: Path, shape: list[int | str]) -> None:
    layers = random_layers([3, 6, 2], 1)
    net = write_net(tmp_path / "net.onnx", layers, shape)
    minimum = exact_minimum(layers, LOW, HIGH, [1, 0])
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, f"(assert (<= Y_0 {minimum - 0.01}))")).verdict == "unsat"
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, f"(assert (<= Y_0 {minimum + 0.01}))")).verdict == "sat"


def export(net: torch.nn.Module, shape: Sequence[int], path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (torch.rand(*shape),), str(path), dynamo=False)
    return path


class Columns(torch.nn.Module):
    """Weights from the left, (1, 6, 1) to (1, 2, 1)."""

    def __init__(self) -> None:
        super().__init__()
        (first, _), (second, _) = random_layers([6, 5, 2], 3)
        self.first, self.second = (torch.nn.Parameter(torch.from_numpy(w.T.copy())) for w in (first, second))

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        return self.second @ torch.relu(self.first @ columns)


class OneImage(torch.nn.Module):
    """(64,) to (2,): a batch of one image inside."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.convolution, self.head = torch.nn.Conv2d(1, 2, 3, stride=2), torch.nn.Linear(18, 2)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.convolution(row.reshape(1, 1, 8, 8)))
        outputs: torch.Tensor = self.head(features.reshape(1, -1))
        return outputs.flatten()


@pytest.mark.parametrize(("net", "shape"), [(Columns(), (1, 6, 1)), (OneImage(), (64,))])
def test_exported_nets_of_other_forms_are_proven_about_their_own_outputs(
    net: torch.nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = export(net, shape, tmp_path / "net.onnx")
    size = math.prod(shape)
    with torch.no_grad():
        centre = net(torch.full(shape, 0.5)).flatten()
        draws = torch.rand(200, *shape, generator=torch.Generator().manual_seed(0))
        drawn = torch.stack([net(0.49 + 0.02 * draw).flatten() for draw in draws])
    top = float(drawn[:, 0].max())
    low, high = [0.49] * size, [0.51] * size
    reach = top - float(centre[0])
    far = property_text(low, high, 2, f"(assert (>= Y_0 {top + 10 * reach + 1e-3}))")
    assert decide(tmp_path, path, far).verdict == "unsat"
    assert decide(tmp_path, path, property_text(low, high, 2, f"(assert (>= Y_0 {top - 1e-5}))")).verdict == "sat"


def test_a_net_of_one_input_at_a_time_is_attacked_and_not_proven(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(0), torch.nn.Linear(6, 2))
    path = export(net, (3, 2), tmp_path / "net.onnx")
    text = property_text([0.0] * 6, [1.0] * 6, 2, "(assert (<= Y_0 {}))")
    result = decide(tmp_path, path, text.format(-100))
    assert result.verdict == "unknown" and "axis for the batch" in result.reason
    assert decide(tmp_path, path, text.format(100)).verdict == "sat"


def test_a_fixed_input_that_float32_has_not_is_within_the_counterexample(tmp_path: Path) -> None:
    identity = [(numpy.eye(2, dtype="float32"), numpy.zeros(2, "float32"))]
    net = write_net(tmp_path / "net.onnx", identity, [1, 2])
    result = decide(tmp_path, net, property_text([0.1, 0.3], [0.1, 0.3], 2, "(assert (>= Y_1 Y_0))"))
    assert result.verdict == "sat" and result.counterexample is not None
    assert result.counterexample.inputs == [0.1, 0.3]
    assert result.counterexample.outputs == [float(numpy.float32(0.1)), float(numpy.float32(0.3))]
    assert decide(tmp_path, net, property_text([0.1, 0.3], [0.1, 0.3], 2, "(assert (<= Y_1 Y_0))")).verdict == "unsat"


@pytest.mark.parametrize(
    ("sign", "limit", "verdict"), [("<=", "1", "sat"), ("<", "1", "unknown"), ("<", "1.0001", "sat")]
)
def test_a_counterexample_that_lies_on_an_end_left_out_is_none(
    tmp_path: Path, sign: str, limit: str, verdict: str
) -> None:
    """y = x reaches 1 only at x = 1: with x < 1 no input meets it, which a closed box cannot prove."""
    net = torch.nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.bias.fill_(0.0)
    path = export(net, (1, 1), tmp_path / "net.onnx")
    text = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (>= X_0 0))\n"
    result = decide(tmp_path, path, text + f"(assert ({sign} X_0 {limit}))\n(assert (>= Y_0 1))", 5.0)
    assert result.verdict == verdict
    if result.counterexample is not None:
        assert result.counterexample.inputs[0] <= float(limit)


def test_a_net_as_of_acas_xu_is_decided_within_seconds(tmp_path: Path) -> None:
    layers = random_layers([5, *[50] * 6, 5], 0)
    net = write_net(tmp_path / "net.onnx", layers, [1, 1, 1, 5])
    low, high = [0.4] * 5, [0.6] * 5
    centre = answer(net, [0.5] * 5, [1, 1, 1, 5])
    top = int(centre.argmax())
    limit = float(centre[top])
    above = property_text(low, high, 5, f"(assert (>= Y_{top} {limit + 0.5}))")
    result = decide(tmp_path, net, above)
    assert result.verdict == "unsat" and result.parts > 1 and result.seconds < 30
    assert decide(tmp_path, net, property_text(low, high, 5, f"(assert (>= Y_{top} {limit}))")).verdict == "sat"


def needle(folder: Path, inputs: int, place: Sequence[float], width: float) -> Path:
    """max(0, 1 - sum of |x - place| / width): without a slope beyond the peak."""
    eye = numpy.eye(inputs, dtype="float32")
    centre = numpy.array(place, "float32")
    first = (numpy.hstack([eye, -eye]) / width, numpy.hstack([-centre, centre]).astype("float32") / width)
    peak = (numpy.full((2 * inputs, 1), -1, "float32"), numpy.ones(1, "float32"))
    last = (numpy.ones((1, 1), "float32"), numpy.zeros(1, "float32"))
    return write_net(folder / "net.onnx", [first, peak, last], [1, inputs])


def test_a_place_that_gradients_lead_to_nowhere_is_found_by_points_that_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = needle(tmp_path, 4, [0.31, 0.74, 0.15, 0.62], 0.5)
    text = property_text([0.0] * 4, [1.0] * 4, 1, "(assert (>= Y_0 {}))")
    monkeypatch.setattr(BoxQuery, "attack", lambda self, **settings: False)
    monkeypatch.setattr(verification, "InputSplitting", None)  # not asked
    result = decide(tmp_path, net, text.format(0.97))
    assert result.verdict == "sat" and result.parts == 0
    found = expect_inside(result.counterexample, [0.0] * 4, [1.0] * 4)
    assert answer(net, found.inputs, [1, 4])[0] >= 0.97


def test_parts_that_are_left_are_searched_for_what_was_missed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = needle(tmp_path, 4, [0.31, 0.74, 0.15, 0.62], 0.5)
    monkeypatch.setattr(verification, "_attacked", lambda *_: False)
    monkeypatch.setattr(BoxQuery, "broken", lambda self, points: torch.zeros(len(points), dtype=torch.bool))
    monkeypatch.setattr(input_splitting, "_FIRST_SEARCH", 8)
    searched: list[tuple[int, bool]] = []

    def recorded(query: BoxQuery, low: torch.Tensor, high: torch.Tensor, *, seed: int, late: object) -> bool:
        inside = (low <= torch.tensor([0.31, 0.74, 0.15, 0.62])) & (high >= torch.tensor([0.31, 0.74, 0.15, 0.62]))
        searched.append((seed, bool(inside.all(1).any())))
        return len(searched) == 2

    monkeypatch.setattr(input_splitting, "narrowing_search", recorded)
    text = property_text([0.0] * 4, [1.0] * 4, 1, "(assert (>= Y_0 0.999))")
    result = decide(tmp_path, net, text)
    assert result.verdict == "sat" and [inside for _, inside in searched] == [True, True]
    (first, _), (second, _) = searched
    assert first >= 8 and second >= 4 * first


@pytest.mark.parametrize(("weight", "side"), [((10.0, 1.0), 1), ((30.0, 1.0), 0)])
def test_of_sides_that_move_the_bound_about_as_much_the_wider_is_split(weight: tuple[float, float], side: int) -> None:
    """The first is a tenth of its box wide, the second all of it: they move the bound by 1 to 1, or by 3 to 1."""
    box = Region.box(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
    splitting: Any = SimpleNamespace(query=SimpleNamespace(region=box), batch=1)
    low, high = torch.zeros_like(box.low), torch.tensor([[0.1, 1.0]], dtype=torch.float64)
    parts = input_splitting._Parts(low, high, torch.zeros(1, 0), torch.zeros(1, 0), torch.tensor([weight]).double())
    halves = input_splitting.InputSplitting._split(splitting, parts)
    assert (halves.high - halves.low).tolist() == [[0.1, 0.5] if side else [0.05, 1.0]] * 2


def test_smooth_activations_on_many_inputs_are_decided_by_splitting_inputs(tmp_path: Path) -> None:
    layers = [(numpy.full((21, 1), 1 / 21, "float32"), numpy.zeros(1, "float32"))]
    net = write_net(tmp_path / "net.onnx", layers, [1, 21], ending=["Tanh"])
    low, high = [-2.0] * 21, [2.0] * 21
    top = math.tanh(2)
    assert decide(tmp_path, net, property_text(low, high, 1, f"(assert (>= Y_0 {top + 0.05}))")).verdict == "unsat"
    assert decide(tmp_path, net, property_text(low, high, 1, f"(assert (>= Y_0 {top - 0.05}))")).verdict == "sat"


def test_a_softmax_at_the_end_is_never_taken_for_its_logits(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3], ending=["Softmax"])
    result = decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 1.5))"))
    assert result.verdict == "unknown" and "softmax" in result.reason
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (<= Y_0 1.0))")).verdict == "sat"


def test_a_layer_that_bounds_do_not_know_is_named_and_still_attacked(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3], ending=["Sin"])
    result = decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 1.5))"))
    assert result.verdict == "unknown" and "sin" in result.reason.lower()
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 -1.0))")).verdict == "sat"


def test_a_random_layer_is_named(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3])
    model = onnx.load(str(path))
    last = model.graph.output[0].name
    noise = helper.make_node("RandomNormalLike", [last], ["noise"], name="dice")
    model.graph.node.extend([noise, helper.make_node("Add", [last, "noise"], ["noisy"])])
    model.graph.output[0].name = "noisy"
    onnx.save(model, str(path))
    result = decide(tmp_path, path, property_text(LOW, HIGH, 2, "(assert (>= Y_0 1.5))"))
    assert result.verdict == "unknown" and "not deterministic" in result.reason and "'dice'" in result.reason


def test_a_net_of_another_size_is_refused(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3])
    with pytest.raises(DataError, match=r"has 3 inputs and property\.vnnlib declares 2"):
        decide(tmp_path, net, property_text(LOW[:2], HIGH[:2], 2, "(assert (>= Y_0 1.5))"))
    with pytest.raises(DataError, match=r"has 2 outputs and property\.vnnlib declares 4"):
        decide(tmp_path, net, property_text(LOW, HIGH, 4, "(assert (>= Y_0 1.5))"))


def test_a_damaged_net_is_refused(tmp_path: Path) -> None:
    net = tmp_path / "net.onnx"
    net.write_bytes(b"\x08\x08 no net")
    with pytest.raises(ModelError, match="not a valid ONNX file"):
        decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 1.5))"))
    net.write_bytes(b"\x1f\x8b cut off")
    with pytest.raises(ModelError, match="damaged gzip"):
        decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 1.5))"))


def test_files_packed_by_gzip_are_read(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3])
    packed, specification = tmp_path / "net.onnx.gz", tmp_path / "property.vnnlib.gz"
    packed.write_bytes(gzip.compress(net.read_bytes()))
    specification.write_bytes(gzip.compress(property_text(LOW, HIGH, 2, "(assert (>= Y_0 -100))").encode()))
    assert verify_instance(packed, specification).verdict == "sat"


def test_what_takes_too_long_is_unknown(tmp_path: Path) -> None:
    layers = random_layers([5, *[50] * 6, 5], 0)
    net = write_net(tmp_path / "net.onnx", layers, [1, 5])
    text = property_text([-2.0] * 5, [2.0] * 5, 5, "(assert (>= Y_0 100))")
    result = decide(tmp_path, net, text, seconds=0.05)
    assert result.verdict == "unknown" and "--timeout" in result.reason


def test_without_onnxruntime_the_net_itself_confirms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([3, 5, 2], 0), [1, 3])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 -100))")).verdict == "sat"
    assert decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 100))")).verdict == "unsat"
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SetupError, match="needs onnx"):
        decide(tmp_path, net, property_text(LOW, HIGH, 2, "(assert (>= Y_0 100))"))
