"""Data formats are found in the registry, described in one place, and join from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from audit.config import DataConfig
from audit.core import method_table
from audit.core.errors import UsageError
from audit.core.registry import data_format, methods
from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions
from audit.data.load import described_formats, load_dataset


def test_the_configuration_describes_every_format_and_no_other() -> None:
    description = DataConfig.model_fields["source"].description or ""
    listed = description.partition(";")[0].replace("and for detectors ", "").split(", ")
    assert sorted(listed) == sorted(described_formats())


def test_every_format_says_what_it_reads() -> None:
    formats = methods("data-format")
    assert {"sample", "folder", "hf", "shapes"} <= {method.name for method in formats}
    for method in formats:
        assert method.summary.endswith("."), method.name
        assert not (method.facts["argument"] and method.defaults), method.name


@pytest.mark.parametrize("kind", ["data-format", "model-format"])
def test_listing_the_formats_imports_none_of_their_libraries(kind: str) -> None:
    code = (
        "import sys; from audit.core.registry import methods; methods(sys.argv[1]); "
        "print([name for name in sys.argv[2:] if name in sys.modules])"
    )
    heavy = ("pyarrow", "sklearn", "keras", "onnx", "onnxruntime", "transformers", "torchvision", "timm")
    answer = subprocess.run([sys.executable, "-c", code, kind, *heavy], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.fixture
def stripes() -> Iterator[None]:
    """A data format of another package, as its import registers it."""

    @data_format(argument="WIDTH")
    def stripes(argument: str, options: LoadOptions) -> Dataset:
        """Black and white stripes."""
        pixels = np.zeros((4, 8, 8), np.uint8)
        pixels[:, :: int(argument)] = 255
        split = array_split(pixels, np.array([0, 1, 0, 1]), name="test", classes=2, source="stripes")
        return Dataset("stripes", ("a", "b"), (1, 8, 8), split)

    yield
    del method_table._METHODS["data-format", "stripes"]


def test_a_format_from_outside_is_loaded_resized_and_listed(stripes: None) -> None:
    data = load_dataset("stripes:2", image_size=4)
    assert data.shape == (1, 4, 4) and data.test.batch(slice(None)).images.shape == (4, 1, 4, 4)
    assert "stripes:WIDTH" in described_formats()
    with pytest.raises(UsageError, match="Did you mean 'stripes:WIDTH'"):
        load_dataset("stripe:2")


def test_a_format_whose_library_decodes_no_files_is_cropped_after_loading(stripes: None) -> None:
    assert load_dataset("stripes:2", crop=0.5).shape == (1, 4, 4)
