"""Our attributions against the peers, on the same images and model, in turn, in one run: passes, seconds, errors.

    python tests/benchmarks/attributions.py --data sample --images 8
    python tests/benchmarks/attributions.py --only shapley lime-224

Seconds compare only within one run, and only on a quiet machine; passes and errors hold anywhere. With one thread
(OMP_NUM_THREADS=1) `--cpu-time` counts the processor's seconds instead, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import torch
from quiet import Clock, at_224, bare_seconds, seconds_inside, timed
from rich.console import Console
from rich.table import Table
from shapley_peers import CONTESTANTS, Game, long_run
from subjects import subjects, under_test
from torch import Tensor

from audit.core.types import Batch
from audit.explanation.mask_reuse import explain_many
from audit.explanation.run import explain_images
from audit.masking.baselines import fill_images
from audit.masking.segmentation import segment_images
from audit.metrics.deletion_insertion import RemovalMode, removal_curves, segment_curves
from audit.models.under_test import ModelUnderTest

console = Console()
MODES: tuple[RemovalMode, ...] = ("insertion", "deletion")


def main() -> None:
    """Run the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--games", type=int, default=4)
    parser.add_argument("--permutations", type=int, default=8000)
    parser.add_argument("--budgets", type=int, nargs="*", default=[512, 1024, 2048])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples-224", type=int, default=1000)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--only", nargs="*", choices=sorted(TABLES), default=sorted(TABLES))
    options = parser.parse_args()
    if options.cpu_time:
        Clock.read = process_time
    nets, batch = subjects(options.data, options.images, train_examples=options.train, epochs=options.epochs)
    model = under_test(nets["standard"], batch)
    for name in options.only:
        TABLES[name](model, batch, options)


def efficiency(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """The bare passes a method needs / its wall time, on the small net."""
    _efficiency("cnn-28", model, batch.images, {}, rounds=15)


def efficiency_224(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """The same at the usual size."""
    samples = {"samples": options.samples_224}
    settings = {"lime": samples, "shap": samples, "rise": samples, "occlusion": {}}
    _efficiency("resnet18 at 224x224", *at_224(batch), settings, rounds=4)


def _efficiency(
    name: str, model: ModelUnderTest, images: Tensor, settings: Mapping[str, Mapping[str, Any]], *, rounds: int
) -> None:
    """The best of some rounds, a method and its bare passes in turn."""
    table = Table("method", "forwards", "seconds", "bare seconds", "efficiency", title=f"Efficiency, {name}")
    segments = segment_images(images).segments
    for method in ("lime", "shap", "rise", "occlusion", "removal"):
        given: dict[str, Any] = {"segments": segments} if method in ("lime", "shap") else {}
        run = partial(_forwards_of, method, model, images, **given, **settings.get(method, {}))
        taken = []
        for _ in range(rounds):
            forwards, seconds = timed(run)
            taken.append((seconds, bare_seconds(model, images, forwards)))
        seconds, bare = (min(column) for column in zip(*taken, strict=True))
        table.add_row(method, str(forwards), f"{seconds:.3f}", f"{bare:.3f}", f"{bare / seconds:.0%}")
    console.print(table)


def _forwards_of(method: str, model: ModelUnderTest, images: Tensor, **settings: Any) -> int:
    with model.count() as spent:
        if method == "removal":
            _deletion_and_insertion(model, images)
        else:
            explain_images(model, images, method=method, targets=0, **settings)
    return spent.passes.forwards


def _deletion_and_insertion(model: ModelUnderTest, images: Tensor) -> None:
    order = {"rows": torch.arange(images[0, 0].numel()).expand(len(images), -1)}
    targets, fill = torch.zeros(len(images), dtype=torch.int64), fill_images(images, "mean")
    for mode in MODES:
        removal_curves(model, images, order, targets=targets, fill=fill, mode=mode, steps=48)


def sharing(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """Forwards of LIME, Shapley, RISE, and the insertion and deletion of each, together and apart.

    The count is the segments' alone: at 224x224 the smallest net does.
    """
    _, large = at_224(batch)
    module = torch.nn.Sequential(torch.nn.AvgPool2d(32), torch.nn.Flatten(), torch.nn.Linear(147, 10))
    small = ModelUnderTest(module, classes="abcdefghij", input_shape=(3, 224, 224), device="cpu")
    table = Table("images", "segments", "together", "apart", "share", title="LIME, Shapley, RISE, insertion, deletion")
    for name, net, images in (("28x28", model, batch.images), ("224x224", small, large)):
        segments = segment_images(images).segments
        together, apart = _together(net, images, segments), _apart(net, images, segments)
        pieces = f"{(segments.flatten(1).amax(1) + 1).double().mean():.0f}"
        table.add_row(name, pieces, str(together), str(apart), f"{together / apart:.0%}")
    console.print(table)


def _together(model: ModelUnderTest, images: Tensor, segments: Tensor) -> int:
    methods: dict[str, dict[str, Any]] = {"lime": {}, "shap": {}, "rise": {}}
    with model.count() as spent:
        found = explain_many(model, images, methods=methods, segments=segments, baseline="mean")
        for name in methods:
            for mode in MODES:
                segment_curves(found.queue, found[name].attributions, mode=mode)
    return spent.passes.forwards


def _apart(model: ModelUnderTest, images: Tensor, segments: Tensor) -> int:
    forwards = 0
    for method in ("lime", "shap", "rise"):
        forwards += _forwards_of(method, model, images, segments=segments, baseline="mean")
        with model.count() as spent:
            fill, targets = fill_images(images, "mean"), torch.zeros(len(images), dtype=torch.int64)
            order = {method: torch.arange(images[0, 0].numel()).expand(len(images), -1)}
            for mode in MODES:
                removal_curves(model, images, order, targets=targets, fill=fill, mode=mode)
        forwards += spent.passes.forwards
    return forwards


def partition(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """Owen values of a tree of segments at a budget of masks, against shap's partition explainer on pixels."""
    import shap

    images, budget = batch.images, 1000
    targets = model.predictions(images)
    height, width, channels = images.shape[2], images.shape[3], images.shape[1]

    def theirs() -> None:
        def outputs(pixels: Any) -> Any:
            return model.logits(torch.from_numpy(np.asarray(pixels)).float().permute(0, 3, 1, 2)).numpy()

        masker = shap.maskers.Image(np.zeros((height, width, channels)), (height, width, channels))
        explainer = shap.explainers.Partition(outputs, masker)
        explainer(images.permute(0, 2, 3, 1).numpy(), max_evals=budget, batch_size=128, silent=True, outputs=[0])

    def ours() -> None:
        explain_images(model, images, method="shap", algorithm="partition", samples=budget, targets=targets)

    theirs()
    rounds = [(timed(ours)[1], timed(theirs)[1]) for _ in range(3)]
    mine, other = (min(column) for column in zip(*rounds, strict=True))
    table = Table("method", "seconds", title=f"Partition, {len(images)} images, at most {budget} masks each")
    table.add_row("audit", f"{mine:.2f}")
    table.add_row("shap", f"{other:.2f}")
    console.print(table)


def shapley(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """Relative l2 error at 40 segments and equal passes against a long run of permutations."""
    images = batch.images[: options.games]
    rows, columns = torch.arange(28) * 8 // 28, torch.arange(28) * 5 // 28
    segments = (rows[:, None] * 5 + columns[None]).expand(len(images), 28, 28)
    baseline = fill_images(images, "mean")
    games = [Game(model, images[i], baseline[i], segments[i], int(batch.labels[i])) for i in range(len(images))]
    references = [long_run(game, permutations=options.permutations) for game in games]
    table = Table("method", "masks", "relative error", "seconds", title="Shapley, 40 segments")
    for budget in options.budgets:
        for name, solve in CONTESTANTS.items():
            errors, seconds = [], 0.0
            for game, reference in zip(games, references, strict=True):
                for seed in range(options.seeds):
                    values, took = timed(partial(solve, game, budget, seed))
                    errors.append(np.linalg.norm(values - reference) / np.linalg.norm(reference))
                    seconds += took
            table.add_row(name, str(budget), f"{np.mean(errors):.4f}", f"{seconds / len(errors):.2f}")
    console.print(table)


def expected_gradients(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """Error and seconds against shap.GradientExplainer at equal passes; the reference integrates every line."""
    import shap

    images, references = batch.images[: options.images // 2], batch.images[options.images // 2 :]
    targets = model.predictions(images)
    exact = torch.stack(
        [
            explain_images(
                model, images, method="integrated-gradients", targets=targets, baseline=one, steps=64, max_steps=64
            ).attributions
            for one in references
        ]
    ).mean(0)
    table = Table("method", "gradients an image", "relative error", "seconds", title="Expected gradients")
    explainer = shap.GradientExplainer(model.module, references)
    for samples in (50, 200):

        def ours(samples: int = samples) -> Tensor:
            return explain_images(
                model, images, method="expected-gradients", targets=targets, references=references, samples=samples
            ).attributions

        def theirs(samples: int = samples) -> Tensor:
            values, _ = explainer.shap_values(images, nsamples=samples, ranked_outputs=1, rseed=0)
            return torch.from_numpy(np.asarray(values)[..., 0])

        for name, run in (("audit", ours), ("shap.GradientExplainer", theirs)):
            found, seconds = timed(run)
            error = float((found - exact).norm() / exact.norm())
            table.add_row(name, str(samples), f"{error:.4f}", f"{seconds:.2f}")
    console.print(table)


def lime_224(model: ModelUnderTest, batch: Batch, options: argparse.Namespace) -> None:
    """Overhead beyond the model of one 224x224 explanation, against the lime package, same segments and masks."""
    from lime import lime_image

    large, images = at_224(batch)
    image = images[:1]
    segments = segment_images(image).segments
    samples = options.samples_224

    class Watch:
        seconds = 0.0

        def __call__(self, pixels: Any) -> Any:
            start = Clock.read()
            tensor = torch.from_numpy(np.asarray(pixels)).float().permute(0, 3, 1, 2)
            scores = large.logits(tensor).softmax(1).numpy()
            self.seconds += Clock.read() - start
            return scores

    watch = Watch()

    def theirs() -> None:
        lime_image.LimeImageExplainer(random_state=0).explain_instance(
            image[0].permute(1, 2, 0).numpy().astype(np.double),
            watch,
            labels=(0,),
            top_labels=None,
            num_samples=samples,
            batch_size=100,
            segmentation_fn=lambda _: segments[0].numpy(),
        )

    def ours() -> int:
        return explain_images(
            large, image, method="lime", targets=0, output="probability", segments=segments, samples=samples, replay=0
        ).passes.forwards

    with contextlib.redirect_stderr(io.StringIO()):
        _, their_seconds = timed(theirs)
    with seconds_inside(large) as inside:
        _, our_seconds = timed(ours)
    table = Table("method", "seconds", "in the model", "overhead", title=f"LIME, 224x224, {samples} samples, resnet18")
    table.add_row("lime", f"{their_seconds:.2f}", f"{watch.seconds:.2f}", f"{their_seconds - watch.seconds:.2f}")
    table.add_row("audit", f"{our_seconds:.2f}", f"{sum(inside):.2f}", f"{our_seconds - sum(inside):.2f}")
    console.print(table)


TABLES: Mapping[str, Callable[[ModelUnderTest, Batch, argparse.Namespace], None]] = {
    "efficiency": efficiency,
    "efficiency-224": efficiency_224,
    "partition": partition,
    "sharing": sharing,
    "shapley": shapley,
    "expected-gradients": expected_gradients,
    "lime-224": lime_224,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
