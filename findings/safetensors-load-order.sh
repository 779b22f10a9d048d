#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.load(bytes)` gives a dict whose order differs from process to process.
#
# Guess: a format with a JSON header in file order gives its tensors in that order, from bytes as from a file.
# Seen (safetensors 0.8.0, numpy 2.3.5, Python 3.11): twelve arrays n0 to n11, saved once, are read in ten processes.
# `load_file` lists n0, n1, n10, n11, n2, ... each time: sorted by name. `load`, of the same bytes, lists them in another
# order in nearly every process (ten different orders were seen in ten processes).
# It matters wherever the order of the dict reaches a result: a list of measurements, a hash, a file written again.
# What audit does: it sorts what it reads, in its store and of a checkpoint (tests/storage/test_store.py,
# tests/models/test_architecture_detection.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.3.5
cat > "$folder/order.py" <<'PY'
import sys
import numpy
from pathlib import Path
from safetensors.numpy import load, load_file, save

path = Path(sys.argv[1])
if not path.exists():
    path.write_bytes(save({f"n{i}": numpy.zeros(3, numpy.float32) for i in range(12)}))
print(",".join(load(path.read_bytes())), ",".join(load_file(path)))
PY
for _ in 1 2 3 4 5 6 7 8 9 10; do "$folder/venv/bin/python" "$folder/order.py" "$folder/arrays.safetensors"; done > "$folder/orders"
from_bytes=$(cut -d' ' -f1 "$folder/orders" | sort -u | wc -l)
from_file=$(cut -d' ' -f2 "$folder/orders" | sort -u | wc -l)
echo "different orders in ten processes: $from_bytes by load, $from_file by load_file"
[ "$from_bytes" -gt 1 ] && [ "$from_file" -eq 1 ]
