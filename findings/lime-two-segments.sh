#!/usr/bin/env bash
# lime 0.2.0.1: on images of 28x28 or 32x32 its default segmentation has two segments, or one, so there is nothing to rank.
#
# Guess: LimeImageExplainer's default segmentation gives some dozens of superpixels, as in its pictures, on small images too.
# Seen (lime 0.2.0.1, scikit-image 0.26.0, numpy 2.4.1, Python 3.11): quickshift(kernel_size=4, max_dist=200, ratio=0.2)
# makes 33 segments of a photograph at 224x224 and two of the same at 28x28 or 32x32. `explain_instance` says nothing: its
# fit of 1,000 samples has a perfect score, as two segments have four coalitions, and `get_image_and_mask` shows half of
# the image. The random_seed that it takes does not reach the segmentation.
# What audit does: grids or SLIC by image size, and says how many segments (tests/masking/test_segmentation.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check lime==0.2.0.1 scikit-image==0.26.0 numpy==2.4.1
cat > "$folder/segments.py" <<'PY'
import numpy as np
from lime.lime_image import LimeImageExplainer
from skimage import data, transform

counts, scores = {}, {}
for side in (28, 32, 224):
    image = transform.resize(data.astronaut(), (side, side), anti_aliasing=True)

    def classify(images):
        share = np.asarray(images).mean((1, 2, 3))
        return np.stack([share, 1 - share], 1)

    explained = LimeImageExplainer(random_state=0).explain_instance(
        image, classify, hide_color=0, num_samples=1000 if side < 100 else 50, random_seed=0
    )
    counts[side], scores[side] = len(np.unique(explained.segments)), explained.score
print(counts, scores)
assert counts[28] == counts[32] == 2 and counts[224] > 20, counts
PY
"$folder/venv/bin/python" "$folder/segments.py"
