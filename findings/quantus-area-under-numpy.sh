#!/usr/bin/env bash
# Quantus 0.6.0: pixel flipping with its area under the curve fails beside numpy 2.4, and its sensitivity leaves [0, 1].
#
# Guess: a release installs beside the numpy that pip gives it and its metrics run; images in [0, 1] are perturbed
# within [0, 1], as a metric of robustness would.
# Seen (Quantus 0.6.0, numpy 2.4.1, torch 2.13.0, Python 3.11): `PixelFlipping(return_auc_per_sample=True)` raises
# AttributeError, as it calls numpy.trapz, which numpy 2.4 no longer has; nothing caps numpy. `MaxSensitivity` asks the
# model about pixels below 0 and above 1 without a word: a net that clamps its input, or was never trained there, gets
# another score.
# What audit does: its own deletion and sensitivity (audit/metrics), whose images stay in [0, 1]; held against slow
# twins (tests/metrics/test_attribution_metrics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check quantus==0.6.0 numpy==2.4.1 torch==2.13.0
cat > "$folder/metrics.py" <<'PY'
import numpy as np
import quantus
import torch

torch.manual_seed(0)
asked = []


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(16, 3)

    def forward(self, images):
        asked.append((float(images.min()), float(images.max())))
        return self.linear(images.flatten(1))


net = Net().eval()
images = np.random.default_rng(0).random((4, 1, 4, 4)).astype(np.float32)
labels, maps = np.zeros(4, dtype=int), np.random.default_rng(1).normal(size=(4, 1, 4, 4)).astype(np.float32)


def gradient(model, inputs, targets, **options):
    leaf = torch.as_tensor(inputs).requires_grad_(True)
    model(leaf)[range(len(targets)), torch.as_tensor(targets)].sum().backward()
    return leaf.grad.numpy()


error = ""
try:
    quantus.PixelFlipping(features_in_step=4, return_auc_per_sample=True, disable_warnings=True)(
        net, images, labels, maps, explain_func=gradient
    )
except AttributeError as fault:
    error = str(fault)
asked.clear()
quantus.MaxSensitivity(nr_samples=5, disable_warnings=True)(
    net, images, labels, maps, explain_func=gradient
)
lowest, highest = min(low for low, _ in asked), max(high for _, high in asked)
print("area:", error, "| sensitivity asks about pixels from", lowest, "to", highest)
assert "trapz" in error and lowest < 0 and highest > 1
PY
"$folder/venv/bin/python" "$folder/metrics.py"
