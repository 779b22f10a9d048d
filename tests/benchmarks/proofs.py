"""Training for proofs on Fashion-MNIST: clean and proven accuracy, what stays open, and what a sweep of bounds costs.

    python tests/benchmarks/proofs.py --data DIR --recipe ibp --epochs 24 [--start FILE] [--save FILE]
    python tests/benchmarks/proofs.py --data DIR --load FILE --images 1000 --effort optimised [--seconds 30]
    python tests/benchmarks/proofs.py --sweep

The first trains `cnn-28` for linf 0.1 and says how many of the test images intervals and linear relaxation prove. The
second takes a checkpoint. The third times CROWN for all classes of 512 images against bare forward-backward passes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import audit
from audit.bounds.alpha import optimise
from audit.bounds.outcome import RUNGS, Budget
from audit.bounds.prover import Prover
from audit.bounds.region import Region
from audit.bounds.sweeps import images_at_once
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.models.architecture import build
from audit.topics.certification.plan import RUNGS_OF_EFFORT

EPS = 0.1
STEPPED, ALPHA_STEPS = 32, 5
CLASSES = 10


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="")
    parser.add_argument("--recipe", default="ibp")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the recipe, as JSON")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--train-images", type=int, default=60_000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--effort", default="bounds", choices=sorted(RUNGS_OF_EFFORT))
    parser.add_argument("--seconds", type=float, help="an image at most; without it, 500 sub-problems")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--load", type=Path)
    parser.add_argument("--sweep", action="store_true")
    given = parser.parse_args()
    if given.sweep:
        sweep()
        return
    dataset = load_dataset(f"fashion-mnist:{given.data}" if given.data else "sample")
    test = dataset.test.batch(range(min(given.images, len(dataset.test))))
    if given.load:
        net = build("cnn-28", classes=CLASSES, input_shape=dataset.shape, seed=0)
        net.load_state_dict(load_file(given.load))
        with safe_open(given.load, "pt") as file:
            header = file.metadata()
        mean, std = (json.loads(header[key]) for key in ("mean", "std"))
        model = audit.wrap(net, classes=CLASSES, input_shape=dataset.shape, mean=mean, std=std)
    else:
        assert dataset.train is not None
        train = dataset.train.batch(range(min(given.train_images, len(dataset.train))))
        model = trained(train, given)
    problems = 500 if given.seconds is None else 10**9
    efforts = list(RUNGS_OF_EFFORT)[: list(RUNGS_OF_EFFORT).index(given.effort) + 1]
    rungs = [rung for rung in RUNGS if any(rung in RUNGS_OF_EFFORT[effort] for effort in efforts)]
    bracket(model, test, Budget(rungs, problems, given.seconds))


def trained(train: Batch, given: argparse.Namespace) -> audit.ModelUnderTest:
    """A net trained by the recipe, with its seconds printed."""
    begun, cpu = time.perf_counter(), time.process_time()
    result = audit.train(
        train.images,
        train.labels,
        classes=CLASSES,
        recipe=given.recipe,
        recipe_settings=given.settings,
        pretrained=given.start,
        epochs=given.epochs,
        learning_rate=given.learning_rate,
        batch_size=given.batch_size,
        threat=audit.ThreatModel("linf", EPS),
        probe_examples=1000,
        held_out=0.05,
    )
    print(f"trained in {time.perf_counter() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in result.history[-1].items()})
    if given.save:
        result.save(given.save)
    return result.model


def bracket(model: audit.ModelUnderTest, test: Batch, budget: Budget) -> None:
    """Clean, unbroken by `quick`, and proven shares over the same images."""
    predicted = model.predictions(test.images)
    clean = predicted == test.labels
    right = test.select(clean)
    robust = audit.robustness(model, right.images, right.labels, audit.ThreatModel("linf", EPS)).robust
    rest = right.select(robust)
    begun, cpu = time.perf_counter(), time.process_time()
    outcomes = Prover(model).prove(rest.images, rest.labels, rest.target_mask(CLASSES), "linf", EPS, budget)
    counts = Counter((o.verdict, o.rung) for o in outcomes)
    share = sum(o.verdict == "proven" for o in outcomes) / len(test)
    print(
        f"{len(test)} images: clean {float(clean.float().mean()):.4f}, unbroken {len(rest) / len(test):.4f}, proven "
        f"{share:.4f} in {time.perf_counter() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU; {dict(counts)}"
    )


def sweep() -> None:
    """CROWN with interval boxes for all classes of 512 images, in turn with bare passes; the ratio of best times.

    Bounds include what float64 is asked again. Steps of alpha-CROWN are timed on 32 of the images, as many at once as a
    proof takes.
    """
    net = build("cnn-28", classes=CLASSES, input_shape=(1, 28, 28), seed=0)
    model = audit.wrap(net, classes=CLASSES, input_shape=(1, 28, 28))
    images = torch.rand(512, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = model.predictions(images)
    goal = Batch(images, labels, tuple(map(str, range(512)))).target_mask(CLASSES)
    prover = Prover(model)
    functions = prover.margins(labels, goal)

    sweeps = prover.ladder.sweeps

    def bounds() -> None:
        for rows in torch.split(torch.arange(512), prover.ladder.layout.batch_size):
            region = Region.ball(images[rows].double(), "linf", 0.02)
            sweeps.bounds(sweeps.values(region), region, functions[rows])

    def steps() -> None:
        for rows in torch.split(torch.arange(STEPPED), images_at_once(prover.graph, CLASSES)):
            region = Region.ball(images[rows].double(), "linf", 0.02)
            near = sweeps.values(region)
            some = functions[rows].float()
            optimise(prover.search, near, region.to(torch.float32), some, steps=ALPHA_STEPS)

    def passes() -> None:
        model.loss_gradient(images, labels, lambda logits, at: logits.gather(1, at[:, None])[:, 0])

    times: dict[str, list[float]] = {"bounds": [], "passes": [], "steps": []}
    for _ in range(5):
        for name, call in (("passes", passes), ("bounds", bounds), ("steps", steps)):
            begun = time.process_time()
            call()
            times[name].append(time.process_time() - begun)
    best = {name: min(values) for name, values in times.items()}
    ratio = best["bounds"] / best["passes"]
    step = best["steps"] / STEPPED / (ALPHA_STEPS + 1) / (best["bounds"] / 512)
    print(f"CROWN {best['bounds']:.2f} s, bare passes {best['passes']:.3f} s: {ratio:.0f} of them")
    print(f"a step of alpha-CROWN: {step:.1f} such sweeps")


if __name__ == "__main__":
    main()
