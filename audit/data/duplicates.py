"""Pictures that are the same to the byte in both parts, or in several classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audit.core.note import Note, note
from audit.data.image_survey import SurveyedImage, printable


def duplicate_notes(readable: Mapping[str, Sequence[SurveyedImage]]) -> Iterator[Note]:
    """Say how many test images are trained on too, and how many images lie in several classes.

    Args:
        readable: The images of each part.
    """
    test, trained = readable["test"], {image.sha256 for image in readable.get("train", ())}
    known = [image for image in test if image.sha256 in trained]
    if known:
        yield note(
            "data_trained_on",
            "Test images that are training images too, to the byte: {count} of {all}, such as {first}. What is "
            "measured on them says little about new images.",
            count=len(known),
            all=len(test),
            first=printable(known[0].file.name),
        )
    images = [image for part in readable.values() for image in part]
    labels: dict[bytes, int] = {}
    of_several = {i.sha256 for i in images if labels.setdefault(i.sha256, i.file.label) != i.file.label}
    several = [image for image in images if image.sha256 in of_several]
    if several:
        yield note(
            "data_of_two_classes",
            "Images that are the same to the byte lie in several classes: {count}, such as {first}.",
            count=len(several),
            first=printable(several[0].file.name),
        )
