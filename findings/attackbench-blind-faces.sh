#!/usr/bin/env bash
# attackbenchlib 2.0.2 on torch 2.14 hides black and white pixels from every gradient attack that it measures.
#
# Guess: BenchModel counts queries and changes no answer; its clamp of the input to [0, 1] is the identity on images.
# Seen (attackbenchlib 2.0.2 with torch 2.14.1): BenchModel.forward clamps its input, and since torch 2.14 torch.clamp
# with number bounds has gradient 0 exactly on a bound (1 before). The gradient at pixels that are 0 or 1 is 0 through
# it, where the model's own is not. On images with a black ground an attack that never touches a face (C&W) then comes
# out far ahead of DDN and FMN, which do: optimality .99 against .82; without the clamp the order is the usual one.
# What audit does: tests/benchmarks/attackbench_table.py gives BenchModel a clamp that keeps the gradient on the faces.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install -q --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 numpy==2.4.6
"${pip[@]}" --no-deps attackbenchlib==2.0.2
cat > "$folder/faces.py" <<'PY'
import importlib.util
import pathlib
import sys

import torch
from torch import nn

root = pathlib.Path(importlib.util.find_spec("attackbench").origin).parent
sys.modules["attackbench"] = type(sys)("attackbench")  # its __init__ wants a logging account; one module is enough here
sys.modules["attackbench"].__path__ = [str(root)]
sys.modules["attackbench.models"] = type(sys)("attackbench.models")
sys.modules["attackbench.models"].__path__ = [str(root / "models")]
from attackbench.models.benchmodel_wrapper import BenchModel

torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def gradient(model):
    image = torch.tensor([[[[0.0, 0.3], [0.7, 1.0]]]], requires_grad=True)
    return torch.autograd.grad(model(image)[0, 1], image)[0].flatten()


plain, counted = gradient(net), gradient(BenchModel(net))
print(f"torch {torch.__version__}: the model's gradient {plain.tolist()}, through BenchModel {counted.tolist()}")
assert (plain != 0).all() and counted[0] == counted[3] == 0 and (counted[1:3] == plain[1:3]).all()
PY
"$folder/venv/bin/python" "$folder/faces.py"
