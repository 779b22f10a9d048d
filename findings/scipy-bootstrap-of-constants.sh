#!/usr/bin/env bash
# scipy 1.17.1: the default bootstrap interval of a sample that is alike everywhere is (nan, nan), and every `<` of it False.
#
# Guess: the bootstrap of 50 equal numbers is an interval of no width at that number, as its own percentile method gives;
# a test such as `if interval.low < threshold: fail` then fails a model that got everything wrong.
# Seen (scipy 1.17.1, numpy 2.4.1, Python 3.11): method="BCa", the default, divides by a spread of 0 and gives nan on both
# sides with a DegenerateDataWarning; "percentile" and "basic" give (0, 0). A gate written as above passes a model of 0%,
# and one wrong answer among 50 makes the interval (0.9, 1.0). Neither says what 50 of 50 leaves open: Wilson's is
# (0.929, 1).
# What audit does: Wilson and Clopper-Pearson for shares, and says so for constants (tests/core/test_statistics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check scipy==1.17.1 numpy==2.4.1
cat > "$folder/constants.py" <<'PY'
import warnings

import numpy as np
from scipy import stats

wrong = (np.zeros(50),)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    interval = stats.bootstrap(wrong, np.mean, rng=0).confidence_interval
percentile = stats.bootstrap(wrong, np.mean, method="percentile", rng=0).confidence_interval
one = stats.bootstrap((np.r_[np.ones(49), 0.0],), np.mean, rng=0).confidence_interval
wilson = stats.binomtest(50, 50).proportion_ci(method="wilson")
print(interval, percentile, one, wilson, [type(item.message).__name__ for item in said], sep="\n")
passes = not interval.low < 0.5
assert passes and np.isnan(interval.low) and np.isnan(interval.high)
assert tuple(percentile) == (0, 0) and round(one.low, 3) == 0.9 and round(wilson.low, 3) == 0.929
PY
"$folder/venv/bin/python" "$folder/constants.py"
