#!/usr/bin/env bash
# In torch 2.14.1 the sigmoid of a number on the CPU depends on where in the tensor the number stands.
#
# Guess: an elementwise function gives an element the same bits in a whole tensor and in a slice of it, as each is
# computed by itself; what rounds differently by batch are sums and matrix products.
# Seen (torch 2.14.1 and 2.10.0, x86 with AVX2 or AVX-512): sigmoid, silu and softplus of 1,003 numbers differ in the last
# bit at 30 to 120 places from the same function asked of one number at a time; exp, tanh, sin and erf differ
# nowhere. Whole vectors go through one formula, and the few elements left over at the end through another.
# What audit does: nothing is compared to the bit across batches that is not computed in the same batch; work that is cut
# into parts keeps a row for every class in each part, so that a number stands where it stood.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/places.py" <<'PY'
import torch
from torch.nn import functional

torch.manual_seed(0)
torch.set_num_threads(1)
numbers = torch.randn(1003) * 3


def moved(function, values=numbers):
    """At how many places the answer for one number differs from that for all."""
    alone = torch.cat([function(value[None]) for value in values])
    return int((function(values) != alone).sum())


by_place = {f.__name__: moved(f) for f in (torch.sigmoid, functional.silu, functional.softplus)}
nowhere = {f.__name__: moved(f) for f in (torch.exp, torch.tanh, torch.sin, torch.erf)}
print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}: {by_place}, {nowhere} of {len(numbers)}")
if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
    raise SystemExit("Seen on x86 with AVX2 or AVX-512 alone.")
assert all(0 < count < 200 for count in by_place.values()) and not any(nowhere.values())
PY
"$folder/venv/bin/python" "$folder/places.py"
