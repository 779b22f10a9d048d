#!/usr/bin/env bash
# Pillow 13.0.0 reads compressed big-endian TIFFs of signed, 32-bit and floating-point numbers with their bytes swapped.
#
# Guess: the byte order of a TIFF is in its header, so the same numbers come out of "II" and "MM" files, compressed or not.
# Seen (Pillow 13.0.0, tifffile 2026.3.3, numpy 2.4.1, Python 3.11): of an 8 x 8 picture written by tifffile, uncompressed
# files give the numbers back in either order and every type. With zlib compression little-endian files do, and of the
# big-endian ones only uint16; int16 503 is read as -2303, int32 503 as -150929408, and float32 503 as 1.2e-38. Nothing is
# raised or warned: a scanner's or a satellite's picture becomes noise.
# What audit does: it decodes such files in the order that their header says, and compares
# (tests/data/test_wide_pictures.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.1
cat > "$folder/orders.py" <<'PY'
import io

import numpy as np
import tifffile
from PIL import Image

numbers = np.arange(64).reshape(8, 8) * 500 + 3
wrong = []
for compression in (None, "zlib"):
    for order in "<>":
        for kind in ("uint16", "int16", "int32", "float32"):
            file = io.BytesIO()
            tifffile.imwrite(file, numbers.astype(kind), byteorder=order, compression=compression)
            read = np.asarray(Image.open(io.BytesIO(file.getvalue())))
            if not np.array_equal(read.astype(float), numbers.astype(float)):
                wrong.append(f"{compression} {order} {kind}")
print(wrong)
assert wrong == ["zlib > int16", "zlib > int32", "zlib > float32"], wrong
PY
"$folder/venv/bin/python" "$folder/orders.py"
