"""What a picture file says beside its pixels (EXIF, text chunks, comments) reaches no rendering."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from made_run import made_config, made_facts, made_results
from PIL import Image, PngImagePlugin

from audit.data.image_decoding import decode, strict_pillow
from audit.report.document import build_document, to_json
from audit.report.html import render_html

EVIL = "</script><script>alert('owned')</script>"


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8))


def jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x8298] = EVIL
    exif.get_ifd(0x8769)[0x9286] = EVIL.encode()
    body = io.BytesIO()
    noise().save(body, "JPEG", exif=exif, comment=EVIL.encode())
    return body.getvalue()


def png() -> bytes:
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", EVIL)
    told.add_itxt("XML:com.adobe.xmp", EVIL)
    body = io.BytesIO()
    noise().save(body, "PNG", pnginfo=told)
    return body.getvalue()


def webp() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = EVIL
    body = io.BytesIO()
    noise().save(body, "WEBP", exif=exif, xmp=EVIL.encode(), lossless=True)
    return body.getvalue()


@pytest.mark.parametrize("make", [jpeg, png, webp])
def test_only_pixels_reach_the_document_and_the_page(make: Callable[[], bytes]) -> None:
    body = make()
    assert b"owned" in body
    images = np.stack([decode(body, (28, 28), grayscale=True)] * 24)
    document = build_document(made_results(images), made_config(), made_facts(images))
    assert "owned" not in to_json(document) and "owned" not in render_html(document)
    kept = base64.b64decode(document.gallery[0].image.data)
    assert b"owned" not in kept
    with Image.open(io.BytesIO(kept)) as picture:
        assert not picture.getexif() and not picture.info.keys() & {"exif", "xmp", "icc_profile", "comment"}


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0" + b"\xff" * 200]
)
def test_a_malformed_exif_block_is_no_obstacle(block: bytes) -> None:
    body = io.BytesIO()
    noise().save(body, "JPEG", exif=block)
    clean = io.BytesIO()
    noise().save(clean, "JPEG")
    with strict_pillow():
        found = decode(body.getvalue(), (28, 28), grayscale=False)
    assert (found == decode(clean.getvalue(), (28, 28), grayscale=False)).all()
