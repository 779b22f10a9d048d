"""How many images of each class could not be used: a class that loses more than others is judged on what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from audit.core.note import Note, note
from audit.data.image_survey import ImageFile, SurveyedImage

_LISTED = 8


def lost_image_notes(
    files_by_split: Mapping[str, Sequence[ImageFile]],
    readable: Mapping[str, Sequence[SurveyedImage]],
    classes: Sequence[str],
) -> Iterator[Note]:
    """Say how many images of which class were skipped.

    Args:
        files_by_split: The files of each part.
        readable: Those of them that could be read.
        classes: Class names in label order.
    """
    there = Counter(file.label for files in files_by_split.values() for file in files)
    left = Counter(image.file.label for images in readable.values() for image in images)
    lost = {label: there[label] - left[label] for label in there if there[label] > left[label]}
    if sum(lost.values()) > 1:
        most = sorted(lost, key=lambda label: (-lost[label] / there[label], label))
        yield note(
            "data_lost",
            "Skipped by class: {listed}.",
            listed=", ".join(f"{classes[label]} {lost[label]} / {there[label]}" for label in most[:_LISTED])
            + (", ..." if len(most) > _LISTED else ""),
        )
