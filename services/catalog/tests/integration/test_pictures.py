"""Pictures of files: what is shown, and that nothing a file does reaches the gateway."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from catalog.adapters.pictures import painter as painters
from catalog.adapters.pictures.painter import ProcessPainter
from catalog.adapters.pictures.shades import spread, windowed
from catalog.application.pictures import Look, Picture
from catalog.errors import CannotBeShown
from millrace.datasets.push import push
from millrace.errors import Exhausted

pytestmark = [pytest.mark.timeout(120)]
LUNG = Look(center=-600, width=1_500)


@pytest.fixture
async def painter() -> AsyncIterator[ProcessPainter]:
    made = ProcessPainter()
    yield made
    await made.close()


def sample(name: str) -> bytes:
    path = get_testdata_file(name)
    assert path is not None, name
    return Path(str(path)).read_bytes()


async def parts(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def painted(painter: ProcessPainter, data: bytes, look: Look = Look()) -> tuple[Picture, Any]:  # noqa: B008
    picture = await painter.paint(look, len(data), parts(data))
    return picture, np.asarray(Image.open(io.BytesIO(picture.data)))


def dicom(**changes: Any) -> bytes:
    """A small CT slice with attributes of one's own."""
    dataset = pydicom.dcmread(io.BytesIO(sample("CT_small.dcm")))
    for name, value in changes.items():
        setattr(dataset, name, value)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset)
    return out.getvalue()


def png(width: int, height: int, kind: int = 0) -> bytes:
    """A PNG that claims a size and has no pixels to speak of."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


async def test_a_slice_is_shown_through_the_window_that_is_asked_for(painter: ProcessPainter) -> None:
    data = sample("CT_small.dcm")
    own, _ = await painted(painter, data, Look(size=512))
    assert (own.media_type, own.frames, own.range) == ("image/png", 1, (-896.0, 1167.0))
    lung, shades = await painted(painter, data, LUNG)
    assert lung.window == (-600, 1_500)
    values = pydicom.dcmread(io.BytesIO(data)).pixel_array * 1.0 - 1_024
    assert np.array_equal(shades, windowed(values, -600, 1_500))


async def test_a_window_of_the_file_s_own_and_inverted_greys(painter: ProcessPainter) -> None:
    plain, shades = await painted(painter, dicom(WindowCenter=40, WindowWidth=400))
    assert plain.window == (40, 400)
    _, inverted = await painted(
        painter, dicom(WindowCenter=40, WindowWidth=400, PhotometricInterpretation="MONOCHROME1")
    )
    assert np.array_equal(inverted, 255 - shades)
    several, _ = await painted(painter, dicom(WindowCenter=[10, 20], WindowWidth=[100, 200]))
    assert several.window == (10, 100)
    absurd, _ = await painted(painter, dicom(WindowCenter=40, WindowWidth=0))
    assert absurd.window not in {None, (40, 0)}


async def test_pixels_are_shown_square(painter: ProcessPainter) -> None:
    _, shades = await painted(painter, dicom(PixelSpacing=[2.0, 1.0]))
    assert shades.shape == (256, 128)


@pytest.mark.parametrize(
    ("name", "frames", "colour"),
    [
        ("SC_rgb_rle_2frame.dcm", 2, True),
        ("examples_palette.dcm", 1, True),
        ("examples_ybr_color.dcm", 30, True),
        ("rtdose.dcm", 15, False),
        ("MR_small_RLE.dcm", 1, False),
        ("MR_small_jpeg_ls_lossless.dcm", 1, False),
        ("SC_rgb_jpeg_gdcm.dcm", 1, True),
        ("JPEG2000.dcm", 1, False),
        ("liver_1frame.dcm", 1, False),
    ],
)
async def test_what_scanners_write_is_shown(painter: ProcessPainter, name: str, frames: int, colour: bool) -> None:
    last, shades = await painted(painter, sample(name), Look(frame=frames - 1, size=64))
    assert last.frames == frames
    assert (shades.ndim == 3) == colour
    assert max(shades.shape[:2]) <= 64
    with pytest.raises(CannotBeShown, match=f"{frames} frames"):
        await painted(painter, sample(name), Look(frame=frames))


async def test_images_are_shown_upright_and_small(painter: ProcessPainter) -> None:
    image = Image.new("RGB", (400, 200), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    picture, shades = await painted(painter, out.getvalue(), Look(size=100))
    assert (picture.media_type, shades.shape) == ("image/jpeg", (100, 50, 3))
    deep = io.BytesIO()
    Image.fromarray((np.arange(10_000).reshape(100, 100) + 20_000).astype(np.uint16)).save(deep, "PNG")
    picture, shades = await painted(painter, deep.getvalue())
    assert picture.range == (20_000.0, 29_999.0)
    assert (int(shades.min()), int(shades.max())) == (0, 255)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        bytes(1_000),
        png(100_000, 100_000),
        png(8_000, 8_001),
        png(500, 500),
        sample("CT_small.dcm")[:20_000],
        sample("rtplan.dcm"),
        sample("test-SR.dcm"),
        sample("badVR.dcm"),
        dicom(NumberOfFrames=2**31 - 1),
        dicom(Rows=65_535, Columns=65_535),
        dicom(BitsAllocated=7),
        dicom(SamplesPerPixel=200),
        dicom(PhotometricInterpretation="PALETTE COLOR"),
        bytes(128) + b"DICM" + bytes(500),
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(100),
        b"II*\0" + b"\xff" * 200,
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    ],
    ids=lambda data: f"{data[:8]!r}-{len(data)}",
)
async def test_what_is_no_picture_or_broken_is_refused(painter: ProcessPainter, data: bytes) -> None:
    with pytest.raises(CannotBeShown):
        await painted(painter, data)
    await painted(painter, sample("CT_small.dcm"))


EVIL = """
import os, sys, time
from catalog.adapters.pictures import __main__ as process, painting
process.WALL_SECONDS, process.CPU_SECONDS = {wall}, {cpu}
kind, good = painting.paint, painting.paint
def paint(data, look):
    if data[:4] != b"EVIL":
        return good(data, look)
    {deed}
process.painting.paint = paint
sys.exit(process.main())
"""


@pytest.mark.parametrize(
    ("deed", "wall", "cpu"),
    [
        ("time.sleep(60)", 1, 10),
        ("[0 for _ in iter(int, 1)]", 30, 1),
        ("return bytearray(8 * 1024**3)", 30, 10),
        ("os.kill(os.getpid(), 11)", 30, 10),
        ("os.fork()", 30, 10),
        ("open('/tmp/millrace-was-here', 'w').write('x' * 100_000)", 30, 10),
    ],
)
async def test_a_file_that_takes_the_process_over_takes_only_its_own(
    monkeypatch: pytest.MonkeyPatch, deed: str, wall: int, cpu: int
) -> None:
    code = EVIL.format(deed=deed, wall=wall, cpu=cpu)
    monkeypatch.setattr(painters, "COMMAND", (sys.executable, "-I", "-c", code))
    painter = ProcessPainter()
    try:
        if deed != "os.fork()":
            with pytest.raises(CannotBeShown):
                await painted(painter, b"EVIL")
        await painted(painter, sample("CT_small.dcm"))
    finally:
        await painter.close()


async def test_a_process_that_died_is_started_again(painter: ProcessPainter) -> None:
    await painted(painter, sample("CT_small.dcm"))
    assert painter._process is not None
    painter._process.kill()
    await painter._process.wait()
    await painted(painter, sample("CT_small.dcm"))


async def test_a_file_that_is_slow_to_come_ends_at_the_deadline_and_a_crowd_is_sent_away() -> None:
    import asyncio

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    painter = ProcessPainter(at_once=1, seconds=2.0)
    try:
        with pytest.raises(CannotBeShown):
            await painter.paint(Look(), 100, never())
        painter._asked = painters.WAITING
        with pytest.raises(Exhausted):
            await painter.paint(Look(), 1, parts(b"x"))
    finally:
        await painter.close()


def test_a_window_is_that_of_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1, its note: centre 2048, width 4096 leaves 12 bits as they are."""
    values = np.array([-5, 0, 2_048, 4_095, 5_000])
    assert windowed(values, 2_048, 4_096).tolist() == [0, 0, 128, 255, 255]
    assert windowed(np.array([0, 1]), 0.5, 1, "LINEAR").tolist() == [0, 255]
    assert windowed(np.array([100.0]), 100, 50, "SIGMOID").tolist() == [128]
    assert spread(np.full((3, 3), 7)) == (7.0, 1e-6)
    assert spread(np.array([np.nan, np.inf]))[1] == 1.0
    assert spread(np.array([-2_000] * 500 + [0, 100]), -2_000)[0] > 0


@pytest.fixture
async def version(gateway: Any) -> Any:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    folder = gateway.folder / "scans"
    folder.mkdir(parents=True)
    (folder / "ct.dcm").write_bytes(sample("CT_small.dcm"))
    (folder / "é.txt").write_bytes(b"no picture")
    pushed = await push(folder, gateway.parts.store, project="default")
    assert (await gateway.commit(pushed)).status_code == 201
    return gateway


@pytest.mark.servers
async def test_pictures_come_over_http_with_a_tag(version: Any) -> None:
    base = "/v1/datasets/digits/versions/1/preview"
    got = await version.call("GET", f"{base}/ct.dcm", params={"size": 64})
    assert (got.status_code, got.headers["content-type"]) == (200, "image/jpeg")
    assert (got.headers["millrace-frames"], got.headers["millrace-range"]) == ("1", "-896,1167")
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    known = await version.call(
        "GET", f"{base}/ct.dcm", params={"size": 64}, headers={"if-none-match": got.headers["etag"]}
    )
    assert (known.status_code, known.content) == (304, b"")
    other = await version.call("GET", f"{base}/ct.dcm", params={"center": 40, "width": 80})
    assert other.headers["etag"] != got.headers["etag"]
    assert other.headers["millrace-window"] == "40,80"


@pytest.mark.servers
async def test_wrong_questions_about_pictures_get_a_problem(version: Any) -> None:
    base = "/v1/datasets/digits/versions/1/preview"
    for path, params, status in (
        ("é.txt", {}, 422),
        ("nothing.dcm", {}, 404),
        ("ct.dcm", {"frame": 1}, 422),
        ("ct.dcm", {"frame": -1}, 400),
        ("ct.dcm", {"center": 4}, 400),
        ("ct.dcm", {"center": "nan", "width": "inf"}, 400),
        ("ct.dcm", {"center": 4, "width": 0}, 400),
        ("ct.dcm", {"size": 100_000}, 400),
    ):
        answer = await version.call("GET", f"{base}/{path}", params=params)
        assert answer.status_code == status, (path, params, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await version.call("GET", f"{base}/ct.dcm", who=None)).status_code == 401
