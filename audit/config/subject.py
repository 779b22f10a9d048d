"""The tables of a configuration that say what is audited: the images and the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from audit.config.flags import Flag
from audit.config.values import IMAGE_SIZES, ConfigTable, Normalisation, Range
from audit.core.image_options import Interpolation, Transparency


class DataConfig(ConfigTable):
    """Where the images come from."""

    source: Annotated[str, Flag("--data")] = Field(
        "sample",
        description="sample, digits, shapes[:KEY=VALUE,...], fashion-mnist:DIR, mnist:DIR, cifar10:DIR, folder:DIR, "
        "npz:FILE, manifest:FILE, archive:FILE, webdataset:DIR, hf:DIR, image:FILE[=LABEL], "
        "and for detectors detection-shapes[:KEY=VALUE,...], coco:FILE.json[,images=DIR][,train=FILE.json], voc:DIR, "
        "yolo:DIR; `audit methods data-format` explains them",
    )
    image_size: Annotated[int | None, Flag("--image-size")] = Field(
        None,
        ge=IMAGE_SIZES[0],
        le=IMAGE_SIZES[-1],
        description="resize to this height and width; as the checkpoint says, or as they are, by default",
    )
    crop: Annotated[float | None, Flag("--crop")] = Field(
        None,
        gt=0,
        le=1,
        description="keep the middle square alone, this share of the shorter side (0.875 is ImageNet's 224 of 256); "
        "as the checkpoint says, or the whole image squeezed, by default",
    )
    interpolation: Annotated[Interpolation | None, Flag("--interpolation")] = Field(
        None, description="the filter of resizing; as the checkpoint says, or bilinear, by default"
    )
    pixel_range: Annotated[Range, Flag("--pixel-range")] = Field(
        None,
        description="the values that are black and white in images of more than 8 bits and in arrays, as 0,4095; found "
        "over the whole data set by default",
    )
    transparency: Annotated[Transparency, Flag("--transparency")] = Field(
        "drop", description="transparent pixels: drop keeps the colour below, white, black and grey are laid under them"
    )
    grayscale: Annotated[bool, Flag("--grayscale")] = Field(
        False, description="one channel instead of three (folder data)"
    )
    rotate: Annotated[float, Flag("--rotate", default="")] = Field(
        0.0, ge=-180, le=180, description="turn the evaluation images, degrees counter-clockwise"
    )
    flip: Annotated[Literal["none", "horizontal", "vertical"], Flag("--flip", default="")] = Field(
        "none", description="mirror the evaluation images: none, horizontal, vertical"
    )
    train_examples: int | None = Field(None, ge=1, description="train on this many at most; all by default")
    test_share: Annotated[float | None, Flag("--test-share", default="")] = Field(
        None,
        gt=0,
        lt=1,
        description="hold this share of each class out to test where the data has one part alone; 0.2 where a model is "
        "trained on it, nothing otherwise, by default",
    )
    path_column: Annotated[str | None, Flag("--path-column", default="")] = Field(
        None,
        description="the column of images, or of their paths, in a table (manifest, hf, npz); by its name by default",
    )
    label_column: Annotated[str | None, Flag("--label-column", default="")] = Field(
        None, description="the column of the labels; by its name by default"
    )
    split_column: Annotated[str | None, Flag("--split-column", default="")] = Field(
        None, description="the column of the splits; by its name by default"
    )
    mask_column: Annotated[str | None, Flag("--mask-column", default="")] = Field(
        None, description="the column of the masks' paths; by its name by default"
    )
    labels_map: Annotated[str | None, Flag("--labels-map")] = Field(
        None, description="a file that lists the classes in the model's order, a name a line, or JSON"
    )
    strict: Annotated[bool, Flag("--strict")] = Field(
        False, description="an unreadable image, or a missing label, is an error; skipped and listed by default"
    )


class TrustConfig(ConfigTable):
    """A file of code the user vouches for."""

    path: str = Field(description="the file")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="refuse the file when it has changed")


def _trusted(value: Any) -> Any:
    """A path alone as the table that holds it."""
    return {"path": value} if isinstance(value, str) else value


class ModelConfig(ConfigTable):
    """The model: trained here, or loaded."""

    architecture: Annotated[str, Flag("--architecture")] = Field(
        "auto", description="a zoo name, torchvision:NAME, timm:NAME, FILE.py:FUNCTION; auto fits the image size"
    )
    weights: Annotated[str | None, Flag("--model")] = Field(
        None, description="a .safetensors, .pt, .onnx or .keras file, or hf:FOLDER; trained here when absent"
    )
    pretrained: Annotated[str | None, Flag("--pretrained")] = Field(
        None,
        description="weights that training starts from, all but the last layer: a file, or torchvision for those of "
        "torchvision:NAME in torch's cache",
    )
    weights_entry: Annotated[str, Flag("--weights-entry")] = Field(
        "", description="which weights of a file that holds several, by their entry or prefix; averaged ones by default"
    )
    own_weights: Annotated[bool | None, Flag("--own-weights", words={"yes": True, "no": False}, default="auto")] = (
        Field(
            None,
            description="whether the weights that FILE.py:FUNCTION returns are the model or trained over; by default "
            "they are the model where two calls under different seeds agree",
        )
    )
    outputs: Annotated[Literal["auto", "logits", "probabilities", "sigmoid"], Flag("--outputs")] = Field(
        "auto", description="what the model's outputs mean: auto tells it from its last operation and its values"
    )
    output_entry: Annotated[str, Flag("--output-entry")] = Field(
        "", description="the scores where the model returns several tensors: a key, an attribute or a position"
    )
    mean: Annotated[Normalisation, Flag("--mean")] = Field(
        None, description="the normalisation the model expects, images in [0, 1]"
    )
    std: Annotated[Normalisation, Flag("--std")] = Field(
        None, description="what it divides by after that, one or a channel"
    )
    trust: Annotated[
        tuple[Annotated[TrustConfig, BeforeValidator(_trusted)], ...],
        Flag("--trust", help="Run this file's code; its SHA-256 is recorded. Repeatable."),
    ] = Field(
        (), description="files of code you have read: [{ path = 'net.py', sha256 = '...' }]; a changed one is refused"
    )

    @property
    def loads(self) -> bool:
        """Whether the run audits weights that exist, and does not train its model."""
        return self.weights is not None or bool(self.own_weights)
