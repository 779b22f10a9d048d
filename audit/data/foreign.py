"""Images that a model is not made for, named by the user: a data source, or a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from audit.core.errors import DataError
from audit.data.dataset import LoadOptions, Split
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_files import image_file_dataset, reader_below
from audit.data.image_survey import ImageFile, printable
from audit.data.litter import is_litter
from audit.data.load import load_dataset


def foreign_split(source: str, shape: tuple[int, int, int]) -> Split:
    """The images of a data source, or all pictures below a folder, in the size and colour of a model.

    Args:
        source: A data source as `load_dataset` takes it, or the path of a folder.
        shape: Channels, height and width of the model's images; the images are squares of the longer side.

    Raises:
        DataError: The source cannot be read, or holds no pictures.
    """
    channels, height, width = shape
    side, root = max(height, width), Path(source)
    if not root.is_dir():
        return load_dataset(source, image_size=side, grayscale=channels == 1).test
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = [
        ImageFile(path, 0) for path in paths if Path(path).suffix.lower() in IMAGE_SUFFIXES and not is_litter(path)
    ]
    name = printable(root.resolve().name)
    if not files:
        raise DataError(f"{name!r} (refusal.foreign) holds no pictures; .jpg, .png or others were expected there.")
    options = LoadOptions(image_size=side, grayscale=channels == 1)
    return image_file_dataset(reader_below(root), name, ("foreign",), {"test": files}, options).test
