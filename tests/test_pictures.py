"""Pictures that harm, pictures of all kinds, and pictures that are too large: what comes back, and at what cost."""

import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface import images
from edgeface.errors import ImageError
from edgeface.image_formats import heic
from edgeface.image_headers import picture_size
from edgeface.images import decode_image, decode_photograph, read_photograph
from tests import heic_pictures

Image = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")

WIDTH, HEIGHT = 41, 31


def photograph() -> npt.NDArray[np.uint8]:
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (WIDTH, HEIGHT))
    image[:10, :10] = 255
    return np.asarray(image, np.uint8)


def saved(form: str, image: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(photograph()) if image is None else image).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Put chunks behind the header."""
    return png[:33] + b"".join(chunks) + png[33:]


def scans_of(jpeg: bytes) -> tuple[bytes, list[bytes]]:
    """Return a progressive JPEG's beginning and its scans, each with the tables before it."""
    places = [at for at in range(len(jpeg) - 1) if jpeg[at : at + 2] == b"\xff\xda"]
    return jpeg[: places[0]], [jpeg[a:b] for a, b in zip(places, [*places[1:], len(jpeg) - 2], strict=True)]


def tiff_of(entries: list[tuple[int, int, int, int]], pixels: bytes = b"", following: int = 0) -> bytes:
    """A TIFF whose pixels come first and then one page of (tag, type, count, value)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(entries))
        + rows
        + struct.pack("<I", following)
    )


def grey_tiff(width: int, height: int, *extra: tuple[int, int, int, int], pixels: bytes = bytes(64)) -> bytes:
    size = [(256, 4, 1, width), (257, 4, 1, height)]
    rest = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, height)]
    return tiff_of([*extra[:1], *size, *rest, (279, 4, 1, len(pixels)), *extra[1:]], pixels)


JPEG = bytes(cv2.imencode(".jpg", photograph())[1])
PROGRESSIVE = bytes(cv2.imencode(".jpg", photograph(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
PNG = bytes(cv2.imencode(".png", photograph())[1])
FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 5000, 6000, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
SOS = JPEG.index(b"\xff\xda")


def webp_canvas(width: int, height: int) -> bytes:
    still = bytes(cv2.imencode(".webp", photograph(), [cv2.IMWRITE_WEBP_QUALITY, 101])[1])[12:]
    canvas = (
        b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(still)) + b"WEBP" + canvas + still


def gif_frame(x: int, y: int, width: int, height: int) -> bytes:
    gif = bytes(cv2.imencode(".gif", photograph())[1])
    at = gif.index(b"\x2c\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT))
    return gif[: at + 1] + struct.pack("<HHHH", x, y, width, height) + gif[at + 9 :]


def bmp(**fields: int) -> bytes:
    data = bytearray(bytes(cv2.imencode(".bmp", photograph())[1]))
    places = {
        "offset": (10, "<I"),
        "height": (22, "<i"),
        "depth": (28, "<H"),
        "packing": (30, "<I"),
        "colours": (46, "<I"),
    }
    for name, value in fields.items():
        struct.pack_into(places[name][1], data, places[name][0], value)
    return bytes(data)


def avif_says(width: int, height: int) -> bytes:
    data = bytearray(saved("AVIF"))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


HARMFUL: dict[str, Callable[[], bytes]] = {
    "png: pixels longer than the file": lambda: PNG[:33] + struct.pack(">I", 0x10000000) + PNG[37:],
    "png: text longer than the file": lambda: with_chunks(PNG, struct.pack(">I", 0xFFFFFFF0) + b"tEXtabcd"),
    "png: a second header": lambda: with_chunks(
        PNG, chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    ),
    "png: far too few pixels": lambda: (
        with_chunks(
            PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 3000, 3000, 8, 2, 0, 0, 0)), chunk(b"IDAT", b"x" * 30)
        )
        + chunk(b"IEND", b"")
    ),
    "png: no end": lambda: PNG[:-12],
    "png: a depth that there is not": lambda: PNG[:24] + b"\x05" + PNG[25:],
    "apng: a frame beside the picture": lambda: with_chunks(
        PNG,
        chunk(b"acTL", struct.pack(">II", 2, 0)),
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 40, 30, 9, 9, 1, 1, 0, 0)),
    ),
    "jpeg: a second frame": lambda: JPEG[:SOS] + FRAME + JPEG[SOS:],
    "jpeg: a second frame after the pixels": lambda: JPEG[:-2] + FRAME + JPEG[SOS:],
    "jpeg: another number of lines": lambda: JPEG[:-2] + b"\xff\xdc\0\4\x20\0\xff\xd9",
    "jpeg: two thousand scans": lambda: (
        scans_of(PROGRESSIVE)[0]
        + b"".join(scans_of(PROGRESSIVE)[1])
        + scans_of(PROGRESSIVE)[1][-1] * 2000
        + b"\xff\xd9"
    ),
    "jpeg: hierarchical": lambda: JPEG[:2] + b"\xff\xde\0\x11" + bytes(15) + JPEG[2:],
    "jpeg: a hundred thousand segments": lambda: JPEG[:2] + b"\xff\xfe\0\2" * 100_000 + JPEG[2:],
    "jpeg: no pixels": lambda: JPEG[:SOS] + b"\xff\xd9",
    "jpeg: no end": lambda: JPEG[:-2],
    "webp: a larger canvas": lambda: webp_canvas(4000, 4000),
    "webp: longer than the file": lambda: PNG[:0] + webp_canvas(WIDTH, HEIGHT)[:-8],
    "gif: a frame beside the screen": lambda: gif_frame(20, 20, 40, 30),
    "gif: a frame of another size": lambda: gif_frame(0, 0, 60000, 60000),
    "tiff: two widths": lambda: grey_tiff(8, 8, (256, 4, 1, 9000)),
    "tiff: two heights, the second larger": lambda: grey_tiff(8, 8, (254, 4, 1, 0), (257, 4, 1, 9000)),
    "tiff: a strip outside of the file": lambda: grey_tiff(8, 8).replace(
        struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 273, 4, 1, 7000)
    ),
    "tiff: a short strip": lambda: grey_tiff(8, 8, pixels=bytes(63)),
    "tiff: strips for other sizes": lambda: grey_tiff(8, 8).replace(
        struct.pack("<HHII", 278, 4, 1, 8), struct.pack("<HHII", 278, 4, 1, 2)
    ),
    "tiff: a count beyond the file": lambda: grey_tiff(8, 8, (270, 2, 0xFFFFFFF0, 8)),
    "tiff: a page that follows itself": lambda: tiff_of(
        [
            (256, 4, 1, 8),
            (257, 4, 1, 8),
            (258, 3, 1, 8),
            (262, 3, 1, 1),
            (273, 4, 1, 8),
            (278, 4, 1, 8),
            (279, 4, 1, 64),
        ],
        bytes(64),
        following=72,
    ),
    "tiff: tiles of gigabytes": lambda: grey_tiff(8, 8, (322, 4, 1, 60000), (323, 4, 1, 60000)),
    "tiff: eighty channels": lambda: grey_tiff(8, 8, (254, 4, 1, 0), (277, 3, 1, 80)),
    "bmp: fewer pixels than it says": lambda: bmp(height=3000),
    "bmp: packed, and from the top down": lambda: bmp(height=-HEIGHT, packing=1, depth=8),
    "bmp: a huge palette": lambda: bmp(colours=0x7FFFFFFF),
    "bmp: pixels behind the end": lambda: bmp(offset=0x7FFFFFFF),
    "pgm: fewer pixels than it says": lambda: b"P5 3000 3000 255\n" + bytes(100),
    "ppm: in letters": lambda: b"P3 3000 3000 255\n" + b"1 " * 100,
    "pam: two widths": lambda: b"P7\nWIDTH 2\nWIDTH 9000\nHEIGHT 2\nDEPTH 1\nMAXVAL 255\nENDHDR\n" + bytes(4),
    "avif: another size": lambda: avif_says(5000, 4000),
    "avif: no picture": lambda: saved("AVIF").replace(b"av01", b"free"),
    "jp2: another size": lambda: (
        lambda d: d[: d.index(b"ihdr") + 4] + struct.pack(">II", 4000, 4000) + d[d.index(b"ihdr") + 12 :]
    )(saved("JPEG2000")),
    "jp2: a million tiles": lambda: (
        lambda d: d[: d.index(b"\xff\x51") + 22] + struct.pack(">II", 1, 1) + d[d.index(b"\xff\x51") + 30 :]
    )(
        saved("JPEG2000", tile_size=(16, 16))
        .replace(struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", 4000, 4000))
        .replace(struct.pack(">II", HEIGHT, WIDTH), struct.pack(">II", 4000, 4000))
    ),
    "heic: another size": lambda: heic_pictures.PLAIN.replace(
        struct.pack(">II", 64, 64), struct.pack(">II", 6400, 6400)
    ),
    "38 bytes for 131 megapixels": lambda: (
        b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", 9999 | 9999 << 14) + bytes(13)
    ),
}
"""Files that ask for more than they hold, or say two things."""


@pytest.mark.parametrize("what", HARMFUL)
def test_a_harmful_picture_is_refused_before_it_is_decoded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = HARMFUL[what]()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr(heic, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=r"^x\.png is not a readable picture \(") as caught:
        decode_image(data, "x.png")
    assert "\n" not in str(caught.value) and caught.value.kind.split()[0] in ("broken", "truncated")


CHILD = """
import os, pickle, resource, sys, time
import edgeface.images
from edgeface.errors import ImageError
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libpng and libtiff tell what they think
most, pictures = pickle.load(sys.stdin.buffer)
edgeface.images.decode_image(pictures[0][1])
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + most, held + most))
for name, data in pictures:
    started = time.process_time()
    try:
        seen = edgeface.images.decode_photograph(data, name)
        if name == "large":
            print(seen.image.shape, seen.reduction)
    except ImageError as error:
        if "emory" in str(error):
            print("memory", name, error)
    except BaseException as error:
        print("raised", name, type(error), error)
    if time.process_time() - started > 10:
        print("slow", name)
print("done", len(pictures))
"""


def in_a_child(pictures: list[tuple[str, bytes]], most: int) -> str:
    """Decode pictures in a process that may take `most` bytes more than OpenCV itself; returns what it has to say."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps((most, pictures)),
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "SILENT"},
    )
    assert done.returncode == 0, (done.returncode, done.stdout)
    return done.stdout.decode().strip()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes near the beginning, where the sizes are, or cut, or repeat a part."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(min(len(changed), int(rng.choice([40, 120, len(changed)])))))
        match rng.integers(5):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                value = int(rng.choice([0, 1, 255, 65535, 2**31 - 1, 2**32 - 16]))
                changed[at : at + 4] = value.to_bytes(4, "big" if rng.random() < 0.5 else "little")
            case 2:
                changed[at:at] = changed[: int(rng.integers(64))]
            case 3:
                del changed[at : at + int(rng.integers(1, 32))]
            case _:
                del changed[max(1, at) :]
    return bytes(changed)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_nothing_takes_more_memory_than_a_picture_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    valid = [data for _, data in sorted(of_all_kinds().items())]
    pictures = [("valid", PNG), *((what, make()) for what, make in HARMFUL.items())]
    pictures += [(f"mutated {n}", mutated(valid[n % len(valid)], rng)) for n in range(300)]
    # 8 MB of text in 8 kB, three hundred times; and a profile that unpacks to 30 MB.
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8_000_000), 9))
    pictures.append(("texts", with_chunks(PNG, *[text] * 300)))
    pictures.append(("profile", with_chunks(PNG, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(30_000_000), 9)))))
    # Broken animations crash OpenCV's reader of them.
    movie = saved("PNG", save_all=True, append_images=[Image.fromarray(photograph()[::-1])])
    pictures.append(("animation", movie.replace(b"fdAT", b"fdAX", 1)))
    pictures.append(("animation without frames", with_chunks(PNG, chunk(b"acTL", struct.pack(">II", 3, 0)))))
    # 108 megapixels, of which 27 are decoded.
    large = np.full((9000, 12000, 3), 128, np.uint8)
    pictures.append(("large", bytes(cv2.imencode(".jpg", large)[1])))
    del large
    assert in_a_child(pictures, 256 << 20).split("\n") == ["(4500, 6000, 3) 2", f"done {len(pictures)}"]


@functools.cache
def of_all_kinds() -> dict[str, bytes]:
    """Valid pictures by OpenCV, Pillow and tifffile."""
    image = photograph()
    found: dict[str, bytes] = {}
    options: dict[str, list[int]] = {
        ".jpg": [],
        ".png": [],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
        ".bmp": [],
        ".tif": [cv2.IMWRITE_TIFF_ROWSPERSTRIP, 4],
        ".gif": [],
        ".avif": [],
        ".ppm": [cv2.IMWRITE_PXM_BINARY, 0],
        ".pam": [],
    }
    for suffix, chosen in options.items():
        found[f"OpenCV {suffix}"] = bytes(cv2.imencode(suffix, image, chosen)[1])
    found["OpenCV grey .pgm"] = bytes(cv2.imencode(".pgm", image[:, :, 0])[1])
    found["OpenCV 16 bits .png"] = bytes(cv2.imencode(".png", image.astype(np.uint16) * 256)[1])
    pil = Image.fromarray(image)
    for mode in ("1", "L", "P", "RGBA", "CMYK"):
        for form in ("PNG", "TIFF", "JPEG", "GIF", "BMP", "WEBP"):
            if (mode, form) not in {
                *(("CMYK", other) for other in ("PNG", "GIF", "BMP")),
                *((other, "JPEG") for other in ("P", "RGBA")),
            }:
                found[f"Pillow {form} {mode}"] = saved(form, pil.convert(mode))
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"Pillow TIFF {packing}"] = saved("TIFF", compression=packing)
    found["Pillow fax"] = saved("TIFF", pil.convert("1"), compression="group4")
    found["Pillow BigTIFF"] = saved("TIFF", big_tiff=True)
    found["Pillow progressive"] = saved("JPEG", progressive=True)
    found["Pillow restart"] = saved("JPEG", restart_marker_rows=1, subsampling=0)
    found["Pillow JPEG 2000"] = saved("JPEG2000", tile_size=(16, 16))
    found["Pillow AVIF"] = saved("AVIF", subsampling="4:4:4")
    for form in ("GIF", "WEBP", "AVIF", "TIFF", "MPO"):
        found[f"Pillow {form} of several"] = saved(form, save_all=True, append_images=[Image.fromarray(image[::-1])])
    ways: dict[str, dict[str, Any]] = {
        "deflate": {"compression": "zlib"},
        "big-endian": {"byteorder": ">"},
        "rows": {"rowsperstrip": 3},
    }
    for name, kind in ways.items():
        file = io.BytesIO()
        tifffile.imwrite(file, image, photometric="rgb", **kind)
        found[f"tifffile {name}"] = file.getvalue()
    return found


@pytest.mark.parametrize(("name", "data"), of_all_kinds().items(), ids=of_all_kinds())
def test_a_valid_picture_decodes_as_by_opencv_alone(name: str, data: bytes) -> None:
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture_size(data) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_honoured_once(form: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_allclose(decode_image(data).astype(int), np.asarray(upright).astype(int), atol=3)


def test_texts_and_animations_of_a_png_never_reach_the_decoder() -> None:
    data = with_chunks(PNG, chunk(b"tEXt", b"a\0b"), chunk(b"acTL", bytes(8)), chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0"))
    np.testing.assert_array_equal(decode_image(data), photograph()[:, :, ::-1])


@settings(max_examples=150)
@given(st.data())
def test_a_changed_picture_raises_nothing_else(data: st.DataObject) -> None:
    kinds = of_all_kinds()
    picture = bytearray(kinds[data.draw(st.sampled_from(sorted(kinds)))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(picture) - 1), st.integers(0, 255)), max_size=6)):
        picture[at] = value
    cut = data.draw(st.none() | st.integers(0, len(picture)))
    try:
        image = decode_image(bytes(picture[:cut]))
    except ImageError as error:
        assert "\n" not in str(error) and error.kind
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


class TestHeic:
    pytest.importorskip("pi_heif")

    def test_it_is_read(self) -> None:
        image = decode_image(heic_pictures.PLAIN)
        assert image.shape == (32, 48, 3)
        corners = [image[y, x].tolist() for y, x in ((4, 4), (4, -4), (-4, 4), (-4, -4))]
        np.testing.assert_allclose(corners, [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], atol=3)

    def test_it_is_turned_by_its_box_and_not_again_by_exif(self) -> None:
        at = heic_pictures.TURNED.index(b"irot") + 4
        assert b"Exif" in heic_pictures.TURNED
        turned = [
            decode_image(heic_pictures.TURNED[:at] + bytes([quarter]) + heic_pictures.TURNED[at + 1 :])
            for quarter in (0, 1, 3)
        ]
        np.testing.assert_array_equal(turned[1], np.rot90(turned[0], 1))
        np.testing.assert_array_equal(turned[2], np.rot90(turned[0], 3))

    def test_a_crash_of_its_reader_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crash = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
        real = subprocess.run
        monkeypatch.setattr("edgeface.image_formats.heic.subprocess.run", lambda _, **options: real(crash, **options))
        with pytest.raises(ImageError, match="its reader crashed"):
            decode_image(heic_pictures.PLAIN)

    def test_what_it_cannot_decode_is_an_error(self) -> None:
        data = bytearray(heic_pictures.PLAIN)
        data[-100:] = bytes(100)
        with pytest.raises(ImageError, match=r"a\.heic is not a readable picture"):
            decode_image(bytes(data), "a.heic")

    def test_without_its_reader_it_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heic, "is_installed", lambda: False)
        with pytest.raises(
            ImageError, match=r"is no picture that can be read here but HEIC; .*'edgeface\[heic\]'"
        ) as caught:
            decode_image(heic_pictures.PLAIN, "a.jpg")
        assert caught.value.kind == "HEIC"


@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_a_huge_photograph_comes_smaller(
    form: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = cv2.resize(photograph(), (403, 301), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(form, Image.fromarray(image), exif=exif, **({"quality": 95} if form == "JPEG" else {}), **options)
    whole = decode_image(data)
    assert whole.shape == (403, 301, 3) and decode_photograph(data).reduction == 1
    monkeypatch.setattr(images, "MAX_PIXELS", 40_000)
    with pytest.raises(ImageError, match="more than 40,000; shrink it first") as caught:
        decode_image(data)
    assert caught.value.kind == "too large"
    (tmp_path / "a").write_bytes(data)
    seen = read_photograph(tmp_path / "a")
    assert (seen.reduction, seen.size_wh) == (2, (301, 403))
    height, width = seen.image.shape[:2]
    assert abs(height * 2 - 403) <= 1 and abs(width * 2 - 301) <= 1
    halved = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(seen.image.astype(int) - halved).mean() < 3
    monkeypatch.setattr(images, "MAX_PIXELS_BY_ROWS", 100_000)
    monkeypatch.setattr(images, "MAX_PIXELS_WHOLE", 100_000)
    with pytest.raises(ImageError, match="301 pixels, more than 100,000"):
        decode_photograph(data)


@pytest.mark.parametrize("form", ["GIF", "AVIF", "JPEG2000"])
def test_formats_that_take_much_memory_have_a_lower_limit(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(form)
    monkeypatch.setattr(images, "MAX_PIXELS_COSTLY", WIDTH * HEIGHT)
    assert decode_photograph(data).size_wh == (WIDTH, HEIGHT)
    monkeypatch.setattr(images, "MAX_PIXELS_COSTLY", WIDTH * HEIGHT - 1)
    with pytest.raises(ImageError, match="41 x 31 pixels, more than 1,270"):
        decode_photograph(data)


def test_progressive_pictures_are_reduced_only_as_far_as_memory_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    monkeypatch.setattr(images, "MAX_PIXELS_WHOLE", 1000)
    assert decode_photograph(JPEG).reduction == 2
    with pytest.raises(ImageError, match="more than 1,000"):
        decode_photograph(PROGRESSIVE)
