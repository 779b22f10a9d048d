import pytest

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.wording import agree
from audit.document.locale import load_locale


@pytest.mark.parametrize(
    ("text", "agreed"),
    [
        ("1 cells to know", "1 cell to know"),
        ("1 images are too few", "1 image is too few"),
        ("Only 1 training images were read.", "Only 1 training image was read."),
        ("1 classes of 28x28 images", "1 class of 28x28 images"),
        ("1 queries, 1 batches", "1 query, 1 batch"),
        ("1 boxes stand for a crowd", "1 box stands for a crowd"),
        (
            "11 images, 0.1 images, 2,1 images, 1 of 5 images, -1 images",
            "11 images, 0.1 images, 2,1 images, 1 of 5 images, -1 images",
        ),
    ],
)
def test_one_is_singular_and_nothing_else_is(text: str, agreed: str) -> None:
    assert agree(text) == agreed


def test_every_sentence_that_is_filled_agrees() -> None:
    assert str(DataError("Found 1 images.")) == "Found 1 image."
    assert note("x", "{n} images were left out", n=1).text == "1 image was left out"
    assert load_locale("en")("history.counted", total=1, failed=0).startswith("1 run,")
