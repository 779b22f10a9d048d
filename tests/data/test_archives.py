"""Archives are read in place and give what the folder gives; what leads out of them is refused."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.core.errors import DataError
from audit.data.load import load_dataset

Pets = Callable[..., Path]


def packed(root: Path, target: Path) -> Path:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(root.rglob("*.png")):
                archive.write(path, path.relative_to(root))
    else:
        with tarfile.open(target, "w") as archive:
            archive.add(root, ".")
    return target


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("wrapper", ["", "top/"])
def test_an_archive_gives_what_its_folder_gives(ending: str, wrapper: str, pets: Pets, tmp_path: Path) -> None:
    root = pets((f"{wrapper}train", f"{wrapper}test"))
    folder = load_dataset(f"folder:{root}")
    data = load_dataset(f"archive:{packed(root, tmp_path / f'pets{ending}')}")
    assert data.name == f"pets{ending}" and data.train is not None and folder.train is not None
    assert data.test.ids == folder.test.ids and data.test.fingerprint == folder.test.fingerprint
    for part, other in ((data.test, folder.test), (data.train, folder.train)):
        assert torch.equal(part.batch(slice(None)).images, other.batch(slice(None)).images)


def hostile_tar(path: Path, member: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(b""))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (tarfile.TarInfo("test/cat/../../../x.png"), "leads out of the archive"),
        (tarfile.TarInfo("/etc/x.png"), "leads out of the archive"),
        (link("test/cat/x.png", "/etc/hostname"), "is a link or a device"),
        (link("test/cat/x.png", "test/cat/y.png", tarfile.LNKTYPE), "is a link or a device"),
        (link("test/cat/x.png", "", tarfile.CHRTYPE), "is a link or a device"),
    ],
)
def test_tar_members_that_lead_out_are_refused(member: tarfile.TarInfo, message: str, tmp_path: Path) -> None:
    hostile_tar(tmp_path / "x.tar", member)
    with pytest.raises(DataError, match=message):
        load_dataset(f"archive:{tmp_path / 'x.tar'}")


def test_zip_links_bombs_and_paths_are_refused(tmp_path: Path) -> None:
    linked = zipfile.ZipInfo("test/cat/x.png")
    linked.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, member, body, message in (
        ("link.zip", linked, b"/etc/hostname", "is a link"),
        ("out.zip", zipfile.ZipInfo("../x.png"), b"", "leads out"),
        ("bomb.zip", zipfile.ZipInfo("test/cat/x.png"), b"\0" * (64 << 20), "a bomb"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, body, zipfile.ZIP_DEFLATED)
        with pytest.raises(DataError, match=message):
            load_dataset(f"archive:{tmp_path / name}")


@pytest.mark.parametrize("body", [b"", b"neither", b"PK\x03\x04nothing", b"\x1f\x8b compressed"])
def test_what_is_no_archive_gets_a_sentence(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(body)
    with pytest.raises(DataError, match=r"x\.tar|holds 0 class folders"):
        load_dataset(f"archive:{tmp_path / 'x.tar'}")


def test_a_damaged_member_is_skipped_and_listed(pets: Pets, tmp_path: Path) -> None:
    path = packed(pets(("train", "test")), tmp_path / "pets.zip")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("test/cat/0.png")
    body = bytearray(path.read_bytes())
    start = entry.header_offset + 60
    body[start : start + 40] = bytes(40)
    path.write_bytes(body)
    data = load_dataset(f"archive:{path}")
    assert "test/cat/0.png (damaged in its archive" in str(data.notes[0]) and len(data.test) == 7


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))


def test_webdataset_shards_give_pictures_and_labels(pets: Pets, tmp_path: Path) -> None:
    pictures = sorted(pets(("train",)).rglob("*.png"))
    bodies = [path.read_bytes() for path in pictures]
    (tmp_path / "shards").mkdir()
    for name, part in (("train-000000", range(4)), ("train-000001", range(4, 6)), ("val-000000", range(6, 8))):
        members = {
            f"{i:05d}.{kind}": body for i in part for kind, body in (("png", bodies[i]), ("cls", b"%d" % (i % 2)))
        }
        shard(tmp_path / "shards" / f"{name}.tar", members | {"note.json": b"{}"})
    data = load_dataset(f"webdataset:{tmp_path / 'shards'}")
    assert data.train is not None and (len(data.train), len(data.test)) == (6, 2) and data.classes == ("0", "1")
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1] and data.test.ids[0] == "val-000000.tar/00006.png"
    plain = load_dataset(f"folder:{tmp_path / 'pets' / 'train'}")
    assert torch.equal(data.test.batch([0, 1]).images, plain.test.batch(np.array([6, 7])).images)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.png": b"x"}, "has no label"),
        ({"0.png": b"x", "0.cls": b"cat"}, "Every label of the shards is cat"),
        ({"0.txt": b"x"}, "no pictures with labels"),
        ({"0.png": b"x", "0.cls": b"0"}, "Every label of the shards is 0"),
    ],
)
def test_a_broken_shard_gets_a_sentence(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    shard(tmp_path / "test.tar", members)
    with pytest.raises(DataError, match=message):
        load_dataset(f"webdataset:{tmp_path / 'test.tar'}")
