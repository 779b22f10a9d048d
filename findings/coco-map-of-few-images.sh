#!/usr/bin/env bash
# pycocotools 2.0.11: mAP of few images lies above mAP of many images of the same kind, and the mean of parts above the whole.
#
# Guess: mAP of a random part of a test set estimates mAP of the whole without bias, as accuracy does.
# Seen (pycocotools 2.0.11, 800 images drawn alike, 2 classes): the mean mAP of the sixteen parts of 50 images is above
# mAP of all 800 by more than two standard errors, as precision is read as the largest at each recall or beyond, and the
# largest of few is the more above its mean. Bootstrap percentiles, whose samples hold fewer different images still, lie
# above as well, and hold the truth too seldom.
# What audit does: audit/metrics/average_precision.py reflects the bootstrap; tests/metrics/test_average_precision.py
# holds intervals of parts to the whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pycocotools==2.0.11 numpy==2.3.5
cat > "$folder/parts.py" <<'PY'
import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

draw = np.random.default_rng(0)
objects, found = [], []
for image in range(800):
    for _ in range(draw.integers(1, 5)):
        x, y, side, label = *draw.integers(0, 200, 2).tolist(), int(draw.integers(20, 80)), int(draw.integers(2))
        objects.append(dict(image_id=image, category_id=label, bbox=[x, y, side, side], area=side**2, iscrowd=0))
        shift, score = float(draw.choice([0, 2, 6, 15])), float(np.clip(draw.normal(0.6, 0.2), 0, 1))
        found.append(dict(image_id=image, category_id=label, bbox=[x + shift, y, side, side], area=side**2, score=score))
    for _ in range(draw.integers(0, 4)):
        x, y, score = *draw.integers(0, 200, 2).tolist(), float(np.clip(draw.normal(0.4, 0.2), 0, 1))
        found.append(dict(image_id=image, category_id=int(draw.integers(2)), bbox=[x, y, 40, 40], area=1600, score=score))


def read(rows):
    data = COCO()
    data.dataset = {
        "images": [{"id": i} for i in range(800)],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": [{"id": i + 1, "iscrowd": 0, **row} for i, row in enumerate(rows)],
    }
    data.createIndex()
    return data


def precision(images):
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, answers, "bbox")
        run.params.imgIds = images
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[0]


with contextlib.redirect_stdout(io.StringIO()):
    truth, answers = read(objects), read(found)
whole = precision(list(range(800)))
parts = np.array([precision(list(range(start, start + 50))) for start in range(0, 800, 50)])
above, error = parts.mean() - whole, parts.std(ddof=1) / 4
print(f"pycocotools 2.0.11: mAP of all {whole:.3f}, mean of 16 parts {parts.mean():.3f}, above by {above:.3f}, {above / error:.1f} standard errors")
assert above > 2 * error
PY
"$folder/venv/bin/python" "$folder/parts.py"
