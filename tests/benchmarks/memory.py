"""Peak memory of an attack: `python tests/benchmarks/memory.py`.

Runs `audit.robustness` with the battery quick on 1,000 and on 10,000 generated 28x28 images, each in a process of its
own, and prints the peak of resident memory, that less the images given and the adversarial ones returned, and the
ratios. `--images N` measures one size in this process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

SIZES = (1_000, 10_000)
PIXELS = 28 * 28
EPS = 0.004
"""Breaks some of the images and leaves others, so that every attack of the battery has work."""


def measure(count: int) -> dict[str, float]:
    """Megabytes, resident: `before` with model and images, `peak` over the attack, `images` the input alone."""
    import torch

    import audit
    from audit.models.zoo.convolutional import cnn_28

    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = audit.wrap(
        cnn_28(10, (1, 28, 28)), classes=[str(name) for name in range(10)], input_shape=(1, 28, 28), device="cpu"
    )
    labels = model.predictions(images)
    audit.robustness(model, images[:64], labels[:64], audit.ThreatModel("linf", EPS), battery="quick")
    before = _peak()
    found = audit.robustness(model, images, labels, audit.ThreatModel("linf", EPS), battery="quick")
    return {"images": count * PIXELS * 4 / 2**20, "before": before, "peak": _peak(), "robust": found.robust_accuracy}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--images", str(count)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def main() -> None:
    """Print the table, or one line of JSON for one size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, help="measure this many in this process, as JSON")
    asked = parser.parse_args().images
    if asked:
        print(json.dumps(measure(asked)))
        return
    rows = {count: _apart(count) for count in SIZES}
    print(f"{'images':>8} {'robust':>7} {'input MB':>9} {'peak MB':>8} {'less input':>11} {'less output too':>16}")
    for count, row in rows.items():
        rest = row["peak"] - row["images"]
        print(f"{count:8} {row['robust']:7.1%} {row['images']:9.1f} {row['peak']:8.0f} {rest:11.0f} ", end="")
        print(f"{rest - row['images']:15.0f}")
    small, large = (rows[count] for count in SIZES)
    print(f"ratio of the peaks: {large['peak'] / small['peak']:.3f}")
    print(f"less the images given: {_rest(large, 1) / _rest(small, 1):.3f}")
    print(f"less the images given and the adversarial ones returned: {_rest(large, 2) / _rest(small, 2):.3f}")


def _rest(row: dict[str, float], copies: int) -> float:
    return row["peak"] - copies * row["images"]


if __name__ == "__main__":
    main()
