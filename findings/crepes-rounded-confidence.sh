#!/usr/bin/env bash
# How many classes a conformal set of crepes 0.9.1 holds hangs on how 1 - confidence rounds.
#
# Guess: of 99 calibration scores, sets of confidence c without smoothing hold the right class of exactly 100 c of the
# 100 places where a new score can lie among them, as the ceil(100 c)-th smallest score is the threshold.
# Seen (crepes 0.9.1): that many at .7, .85, .95, .98 and .99; one place more at .5, .6, .75, .8 and .9. A class whose
# p-value is 1 - c itself is in the set, and whether a p-value of 10/100 is that is up to the last bit of 1 - .9, which
# lies below .1, while 1 - .95 lies above .05. Sets are valid either way, and one in a hundred larger than need be.
# What audit does: the rank is that ceiling with a margin of 1e-12 for rounding, at every error rate
# (`tests/metrics/test_refusal_metrics.py` holds it against the exact rank).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check crepes==0.9.1 numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1
cat > "$folder/places.py" <<'PY'
import numpy as np
from crepes import ConformalClassifier

CALIBRATED = np.arange(1.0, 100.0)
PLACES = np.arange(100) + 0.5


def held(confidence):
    """At how many of the hundred places a new score is in the set."""
    classifier = ConformalClassifier()
    classifier.fit(CALIBRATED)
    return int(classifier.predict_set(PLACES[:, None], confidence=confidence, smoothing=False).sum())


exact = {confidence: held(confidence) for confidence in (0.7, 0.85, 0.95, 0.98, 0.99)}
more = {confidence: held(confidence) for confidence in (0.5, 0.6, 0.75, 0.8, 0.9)}
print(f"of 100 places: {exact}; {more}")
assert all(count == round(100 * confidence) for confidence, count in exact.items())
assert all(count == round(100 * confidence) + 1 for confidence, count in more.items())
PY
"$folder/venv/bin/python" "$folder/places.py"
