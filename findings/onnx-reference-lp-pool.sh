#!/usr/bin/env bash
# onnx 1.23.2: the reference evaluator of LpPool scales windows that reach over the edge, and PyTorch does; onnxruntime not.
#
# Guess: ONNX's own reference is what a conversion is to be held against, and an Lp norm of a window is the norm of the
# numbers in it, however many they are.
# Seen (onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.1, Python 3.11): LpPool (p = 2, kernel 3x3, stride 2, ceil_mode 1) of the
# numbers 1 to 36 in 6x6. The window at the right edge holds 5, 6, 11, 12, 17 and 18, whose norm is 30.643: onnxruntime says
# so, the reference 37.530, the norm times the square root of 9/6, as if it were an average. The model passes the checker.
# torch.nn.LPPool2d computes the same way as the reference, so an exported net answers otherwise in onnxruntime.
# What audit does: it holds what it converts against onnxruntime where that is installed (tests/models).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.1
cat > "$folder/pool.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, p=2)
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 6, 6]), ("y", [1, 1, 3, 3])))
model = helper.make_model(
    helper.make_graph([node], "pool", [x], [y]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
)
onnx.checker.check_model(model, full_check=True)
numbers = np.arange(1, 37, dtype=np.float32).reshape(1, 1, 6, 6)
reference = ReferenceEvaluator(model).run(None, {"x": numbers})[0][0, 0]
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = session.run(None, {"x": numbers})[0][0, 0]
norm = np.linalg.norm(numbers[0, 0, :3, 4:])
print("reference", reference[0, 2], "onnxruntime", runtime[0, 2], "norm of the window", norm)
assert np.isclose(runtime[0, 2], norm) and np.isclose(reference[0, 2], norm * np.sqrt(9 / 6))
assert np.allclose(reference[:2, :2], runtime[:2, :2])
PY
"$folder/venv/bin/python" "$folder/pool.py"
