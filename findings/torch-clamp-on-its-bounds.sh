#!/usr/bin/env bash
# torch 2.14.1: the gradient of clamp exactly on a bound is 0; it was 1 in 2.13.0, and PGD on a net that clamps feels it.
#
# Guess: `x.clamp(0, 1)` passes the gradient on the closed interval, so a net that begins with it is attacked as well as the
# net without; a new minor release does not change that.
# Seen (torch 2.13.0 and 2.14.1, Python 3.11): 1 at 0 and at 1 in 2.13.0 and 0 in 2.14.1 with numbers as bounds; with tensors
# as bounds 1 and one half; hardtanh has 0 in both. Pixels of real images lie on the bounds by the thousand, so one PGD
# step sees none of them: the same net, clamped, keeps right what the net without the clamp gets wrong, with no error.
# What audit does: it takes the gradient a hair inside where a face is flat (audit/models/flat_faces.py,
# tests/models/test_flat_faces.py), and `audit compare` says which runs lie on either side of 2.14.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/clamp.py" <<'PY'
import sys

import torch

before = sys.argv[1] == "2.13.0"
leaf = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
numbers = torch.autograd.grad(leaf.clamp(0, 1).sum(), leaf)[0].tolist()
tensors = torch.autograd.grad(leaf.clamp(torch.zeros(()), torch.ones(())).sum(), leaf)[0].tolist()
hardtanh = torch.autograd.grad(torch.nn.functional.hardtanh(leaf, 0, 1).sum(), leaf)[0].tolist()

torch.manual_seed(0)
images = (torch.rand(200, 64) > 0.5).float()  # every pixel black or white
weights = torch.randn(64)


def right_after_one_step(clamped):
    start = images.clone().requires_grad_(True)
    score = (start.clamp(0, 1) if clamped else start) @ weights
    side = score.sign().detach()
    (gradient,) = torch.autograd.grad((score * side).sum(), start)
    moved = (images - 0.3 * gradient.sign()).clamp(0, 1)
    return float(((moved @ weights).sign() == side).float().mean())


plain, clamped = right_after_one_step(False), right_after_one_step(True)
print(torch.__version__, numbers, tensors, hardtanh, "right after one step", plain, "clamped", clamped)
assert hardtanh == [0, 1, 0] and plain < 0.9
assert numbers == ([1, 1, 1] if before else [0, 1, 0]) and tensors == ([1, 1, 1] if before else [0.5, 1, 0.5])
assert clamped == (plain if before else 1.0)
PY
for release in 2.13.0 2.14.1; do
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q --disable-pip-version-check torch==$release
  "$folder/venv/bin/python" "$folder/clamp.py" $release
  rm -rf "$folder/venv"
done
