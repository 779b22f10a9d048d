#!/usr/bin/env bash
# captum 0.9.0: IntegratedGradients(method="riemann_trapezoid") gives (n - 1)/n of the output of a linear model.
#
# Guess: on a linear model the gradient is the same everywhere, so any quadrature rule whose weights sum to 1 is complete,
# and the trapezoid rule is the most exact of the Riemann rules.
# Seen (captum 0.9.0, torch 2.13.0, Python 3.11): left, right, middle and Gauss-Legendre attribute the whole difference to
# the baseline; the trapezoid 0.95 of it at 20 steps and 0.98 at 50, as its two halved ends are not made up for: its weights
# sum to (n - 1)/n. No warning, and its convergence delta is only there for those who ask for it.
# What audit does: steps of its own, doubled until the sum closes, and the report says where it does not
# (tests/attributions).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check captum==0.9.0 torch==2.13.0
cat > "$folder/rules.py" <<'PY'
import torch
from captum.attr import IntegratedGradients

torch.manual_seed(0)
linear = torch.nn.Linear(16, 3)
point = torch.rand(1, 16)
whole = float((linear(point) - linear(torch.zeros(1, 16)))[0, 1])
shares = {}
for rule in ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"):
    for steps in (20, 50):
        map_ = IntegratedGradients(linear).attribute(point, target=1, method=rule, n_steps=steps)
        shares[rule, steps] = round(float(map_.sum()) / whole, 4)
print(shares)
assert shares.pop(("riemann_trapezoid", 20)) == 0.95 and shares.pop(("riemann_trapezoid", 50)) == 0.98
assert set(shares.values()) == {1.0}
PY
"$folder/venv/bin/python" "$folder/rules.py"
