"""What is said of image files: what was changed in them, which were skipped, and where that differs between classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from audit.core.errors import DataError
from audit.core.image_options import PixelRange
from audit.core.note import Note, note
from audit.data.dataset import LoadOptions
from audit.data.image_survey import ImageFile, SurveyedImage, printable
from audit.data.pixel_range import range_note

_LISTED = 5
_MOST_CLASSES = 8
_UNEVEN = 0.5
"""Classes that differ by this share in what was changed in their images are told apart in the note."""

REPAIRS = {
    "cmyk": note("data_cmyk", "Images in CMYK, turned into RGB: {count}{uneven}."),
    "exif": note("data_exif", "Images turned upright by their EXIF orientation: {count}{uneven}."),
    "exif_broken": note(
        "data_exif_broken", "Images whose EXIF cannot be read, used as they are stored: {count}{uneven}."
    ),
    "alpha": note("data_alpha", "Images with transparent pixels, whose alpha {treatment}: {count}{uneven}."),
    "profile": note("data_profile", "Images with a colour profile other than sRGB, which is ignored: {count}{uneven}."),
    "frames": note("data_frames", "Images with several frames, of which the first is used: {count}{uneven}."),
}
"""What is changed in an image when it is decoded, and what is said of it."""

_DROPPED = note("data_alpha_dropped", "was dropped (--transparency white lays them on white)")
_LAID = note("data_alpha_laid", "was laid on {colour}")


def image_notes(
    images: Sequence[SurveyedImage], classes: Sequence[str], options: LoadOptions, pixel_range: PixelRange | None
) -> Iterator[Note]:
    """Say what was changed in the images, and that all are grey where they are given in colour.

    Args:
        images: The surveyed images.
        classes: Class names in label order.
        options: Their colour, and what becomes of transparent pixels.
        pixel_range: What is black and white in those of more than 8 bits; None where there are none.
    """
    totals = Counter(image.file.label for image in images)
    laid = _DROPPED if options.transparency == "drop" else _LAID.filled(colour=[options.transparency])
    for repair, sentence in REPAIRS.items():
        counts = Counter(image.file.label for image in images if repair in image.info.repairs)
        if counts:
            values = {"treatment": laid} if repair == "alpha" else {}
            yield sentence.filled(count=counts.total(), uneven=_uneven(counts, totals, classes), **values)
    if pixel_range is not None:
        extents = [image.info.extent for image in images if image.info.extent is not None]
        counts = Counter(image.file.label for image in images if image.info.extent is not None)
        yield range_note(extents, pixel_range, _uneven(counts, totals, classes))
    grey = Counter(image.file.label for image in images if image.info.grey)
    if options.grayscale and grey != totals:
        yield note("data_to_grey", "Colour turned into grey.")
    if options.grayscale or not grey:
        return
    uneven = _uneven(grey, totals, classes)
    if grey == totals:
        yield note("data_grey", "Every image is grey and is given as three equal channels; --grayscale gives one.")
    elif uneven:
        yield note(
            "data_grey_some", "Grey images among coloured ones: {count}{uneven}.", count=grey.total(), uneven=uneven
        )


def mask_notes(images: Sequence[SurveyedImage], *, strict: bool) -> Iterator[Note]:
    """Say which masks are unreadable and left out.

    Args:
        images: The surveyed images.
        strict: Make an unreadable mask an error.

    Raises:
        DataError: When `strict` and a mask is unreadable.
    """
    unreadable = [image.file.mask for image in images if image.file.mask and not image.mask]
    if unreadable and strict:
        raise DataError(
            f"{len(unreadable)} masks are unreadable, and --strict makes that an error; the first is "
            f"{printable(unreadable[0])}."
        )
    if unreadable:
        yield note(
            "data_masks",
            "{count} masks are unreadable and left out, {first} the first.",
            count=len(unreadable),
            first=printable(unreadable[0]),
        )


def skipped_notes(unreadable: Sequence[str]) -> Iterator[Note]:
    """Say which files were skipped.

    Args:
        unreadable: A line for each unreadable file.
    """
    count = len(unreadable)
    listed: Note | str = "; ".join(unreadable[:_LISTED])
    if count == 1:
        yield note("data_skipped_one", "1 image is unreadable and was skipped: {listed}.", listed=listed)
    elif count:
        more = count - _LISTED
        if more > 0:
            listed = note("listed_and_more", "{listed}; and {more} more", listed=listed, more=more)
        yield note(
            "data_skipped", "{count} images are unreadable and were skipped: {listed}.", count=count, listed=listed
        )


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
            listed=", ".join(f"{classes[label]} {lost[label]} / {there[label]}" for label in most[:_MOST_CLASSES])
            + (", ..." if len(most) > _MOST_CLASSES else ""),
        )


def _uneven(counts: Counter[int], totals: Counter[int], classes: Sequence[str]) -> Note | str:
    """The classes with the largest shares and the one with the least, where these differ much; else nothing."""
    shares = {label: counts[label] / total for label, total in totals.items() if total}
    ordered = sorted(shares, key=lambda label: (-shares[label], label))
    if len(ordered) < 2 or shares[ordered[0]] - shares[ordered[-1]] < _UNEVEN:
        return ""
    named = ordered if len(ordered) <= _LISTED else [*ordered[: _LISTED - 1], ordered[-1]]
    listed = ", ".join(f"{classes[label]} {counts[label]}/{totals[label]}" for label in named)
    return note("data_uneven", "; unevenly over the classes, which a model can learn ({listed})", listed=listed)
