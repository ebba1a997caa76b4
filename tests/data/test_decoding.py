"""Each format and mode is decoded by one rule, to pixels known from making the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import noise, png, png_chunk
from PIL import Image, ImageCms, PngImagePlugin

from gaxn.data import decoding, describe_counts, folder
from gaxn.types import InputError

COLORS, GRAY, ALPHA = noise(5), noise(5)[..., :1], noise(6)[..., :1]


def _source(tmp_path, content: bytes, split: str = "all", **options) -> folder.Source:
    (tmp_path / "set").mkdir(exist_ok=True)
    for index in range(3):
        (tmp_path / "set" / f"{index}.png").write_bytes(content)
    return folder.Source(split, str(tmp_path / "set"), **{"size": 12, **options})


def _read(tmp_path, content: bytes, **options) -> np.ndarray:
    return _source(tmp_path, content, **options).read(np.array([0])).images[0]


def _saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha / 255
    return share * pixels + (1 - share) * 255


def _assert_pixels(image: np.ndarray, expected: np.ndarray, atol: int = 2) -> None:
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=atol)


# ---------------------------------------------------------------- modes


def _cmyk() -> tuple[np.ndarray, np.ndarray]:
    inks = np.concatenate([noise(7), noise(8)[..., :1]], axis=-1)
    return inks, (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255


def _palette(transparency) -> tuple[bytes, np.ndarray]:
    """Returns a PNG of 16 colors, with the transparency of some, and its pixels on white."""
    colors, numbers = noise(7, 4, 4).reshape(16, 3), GRAY[..., 0] // 16
    image = Image.new("P", (12, 12))
    image.putpalette(colors.reshape(-1).tolist())
    image.putdata(numbers.reshape(-1).tolist())
    alpha = np.full(16, 255)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha[: len(transparency)] = list(transparency)
    content = _saved(image, "png", transparency=transparency)
    return content, _on_white(colors[numbers], alpha[numbers][..., None])


def _modes() -> dict[str, tuple[bytes, np.ndarray]]:
    """Returns a file of each mode, and its pixels on white."""
    inks, from_inks = _cmyk()
    on_white = _on_white(COLORS, ALPHA)
    with_alpha = np.concatenate([COLORS, ALPHA], axis=-1)
    smooth = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None] * 20, (12, 12, 3))
    key, gray_key = COLORS[3, 4], GRAY[3, 4]
    is_key, is_gray_key = (key == COLORS).all(-1, keepdims=True), gray_key == GRAY
    lossless = {"lossless": True, "exact": True}
    ink = Image.new("CMYK", (12, 12), (10, 200, 60, 30))
    # L* 49.2, a* 35.6, b* 34.6 under D50: 255 is L* 100, and 128 is added to the others.
    lab = Image.new("LAB", (12, 12), (125, 164, 163))
    return {
        "RGB": (png(COLORS), COLORS),
        "gray": (png(GRAY), GRAY),
        "gray and alpha": (png(np.concatenate([GRAY, ALPHA], axis=-1)), _on_white(GRAY, ALPHA)),
        "alpha": (png(with_alpha), on_white),
        "alpha in WebP": (_saved(Image.fromarray(with_alpha), "webp", **lossless), on_white),
        "alpha in TIFF": (_saved(Image.fromarray(with_alpha), "tiff"), on_white),
        "a transparent gray": (
            png(GRAY, png_chunk(b"tRNS", struct.pack(">H", *gray_key))),
            np.where(is_gray_key, 255, GRAY),
        ),
        "a transparent color": (
            png(COLORS, png_chunk(b"tRNS", struct.pack(">HHH", *key))),
            np.where(is_key, 255, COLORS),
        ),
        "a transparent color of a palette": _palette(3),
        "a palette with alpha": _palette(bytes(range(0, 256, 25))),
        "CMYK in TIFF": (_saved(Image.fromarray(inks, "CMYK"), "tiff"), from_inks),
        "CMYK in JPEG": (_saved(ink, "jpeg", quality=100), np.array([216, 48, 172])),
        "gray JPEG": (_saved(Image.fromarray(smooth[..., 0]), "jpeg", quality=100), smooth),
        "YCbCr JPEG": (_saved(Image.fromarray(smooth), "jpeg", quality=100), smooth),
        "Lab in TIFF": (_saved(lab, "tiff"), np.array([180, 90, 60])),
        "black and white": (
            _saved(Image.fromarray(GRAY[..., 0] > 99), "png"),
            np.where(GRAY > 99, 255, 0),
        ),
    }


MODES = _modes()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_gray_of_few_bits_becomes_white(tmp_path, bits):
    shades = np.resize(np.arange(2**bits), (12, 12)).astype(np.uint8)
    digits = np.unpackbits(shades[..., None], axis=-1)[..., -bits:]
    rows = np.packbits(digits.reshape(12, -1), axis=-1)
    for key in range(2**bits):
        content = b"".join(
            (
                decoding.PNG,
                png_chunk(b"IHDR", struct.pack(">IIBBBBB", 12, 12, bits, 0, 0, 0, 0)),
                png_chunk(b"tRNS", bytes([0, key])),
                png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))),
                png_chunk(b"IEND", b""),
            )
        )
        expected = np.where(shades == key, 255, shades * (255 // (2**bits - 1)))
        np.testing.assert_array_equal(_read(tmp_path, content)[..., 0], expected)


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_on_white(tmp_path, name):
    content, expected = MODES[name]
    _assert_pixels(_read(tmp_path, content), expected)
    gray = _read(tmp_path, content, channels=1)
    expected = np.broadcast_to(expected, (12, 12, 3)) @ np.array([0.299, 0.587, 0.114])
    _assert_pixels(gray[..., 0], expected)


def test_floating_point_numbers_are_refused(tmp_path):
    content = _saved(Image.new("F", (12, 12), 0.5), "tiff")
    with pytest.raises(InputError, match="floating-point numbers, whose range is unknown"):
        _read(tmp_path, content)


# ---------------------------------------------------------------- frames


def _frames(form: str, **options) -> bytes:
    first, *rest = (Image.new("RGB", (12, 12), (value, 0, 90)) for value in (200, 100, 10))
    return _saved(first, form, save_all=True, append_images=rest, **options)


@pytest.mark.parametrize("form", ["gif", "png", "webp", "tiff", "mpo", "avif"])
def test_the_first_frame_is_the_picture(tmp_path, form):
    if form == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow cannot open AVIF")
    options = {"lossless": True} if form == "webp" else {}
    _assert_pixels(_read(tmp_path, _frames(form, **options)), np.array([200, 0, 90]))


def test_the_default_image_of_an_animated_png_is_the_picture(tmp_path):
    content = _frames("png", default_image=True)
    _assert_pixels(_read(tmp_path, content), np.array([200, 0, 90]))


@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": 3}])
def test_a_first_frame_smaller_than_the_screen_lies_on_white(tmp_path, options):
    frame = Image.new("P", (5, 4), 1)
    frame.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0, 9, 9, 9])
    content = bytearray(_saved(frame, "gif", optimize=False, **options))
    content[6:10] = struct.pack("<HH", 12, 12)
    descriptor = struct.pack("<BHHHH", 0x2C, 0, 0, 5, 4)
    assert content.count(descriptor) == 1
    place = content.index(descriptor)
    content[place : place + 9] = struct.pack("<BHHHH", 0x2C, 3, 2, 5, 4)
    expected = np.full((12, 12, 3), 255)
    expected[2:6, 3:8] = (0, 0, 255)
    _assert_pixels(_read(tmp_path, bytes(content)), expected)


# ---------------------------------------------------------------- metadata


def _profile(size: int) -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    return bytes(profile) + np.random.default_rng(0).bytes(size - len(profile))


def _icc_chunk(profile: bytes, **options) -> bytes:
    return png_chunk(b"iCCP", b"x\0\0" + zlib.compress(profile), **options)


SWAP = png_chunk(b"eXIf", b"II*\0\x01\0\0\0")

PNG_METADATA = {
    "a large profile": _icc_chunk(_profile(1_500_000)),
    "a profile that is cut short": png_chunk(
        b"iCCP", b"x\0\0" + zlib.compress(_profile(5000))[:90]
    ),
    "a profile without a name": png_chunk(b"iCCP", b""),
    "a wrong checksum": _icc_chunk(_profile(5000), checksum=1),
    "a long text": png_chunk(b"zTXt", b"x\0\0" + zlib.compress(b"x" * 2_000_000)),
    "a damaged text": png_chunk(b"zTXt", b"x\0\0no zlib"),
    "an international text": png_chunk(b"iTXt", b"x\0\1\0\0\0no zlib"),
    "a time of two bytes": png_chunk(b"tIME", b"\0\0"),
    "a short gamma": png_chunk(b"gAMA", b"\0"),
    "a short resolution": png_chunk(b"pHYs", b""),
    "an animation without frames": png_chunk(b"acTL", b""),
    "broken EXIF": SWAP,
    "EXIF with a wrong checksum": png_chunk(b"eXIf", b"II*\0", checksum=1),
    "an unknown chunk": png_chunk(b"abCd", b"xyz", checksum=1),
}


@pytest.mark.parametrize("name", PNG_METADATA)
def test_metadata_of_a_png_change_no_pixel(tmp_path, name):
    _assert_pixels(_read(tmp_path, png(COLORS, PNG_METADATA[name])), COLORS, atol=0)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


JPEG_METADATA = {
    "a short profile": _segment(0xE2, b"ICC_PROFILE\0"),
    "a profile in parts": b"".join(
        _segment(0xE2, b"ICC_PROFILE\0" + bytes([part, 30]) + bytes(60_000)) for part in range(25)
    ),
    "a short JFIF": _segment(0xE0, b"JFIF\0"),
    "a short Adobe": _segment(0xEE, b"Adobe"),
    "broken EXIF": _segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    "EXIF of another kind": _segment(0xE1, b"Exif\0\0nothing"),
    "a damaged list of pictures": _segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff"),
    "a damaged resource": _segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff"),
    "a comment": _segment(0xFE, b"\xff\xd9\xff\xda"),
}


@pytest.mark.parametrize("name", JPEG_METADATA)
def test_metadata_of_a_jpeg_change_no_pixel(tmp_path, name):
    plain = _saved(Image.fromarray(COLORS), "jpeg", quality=100, subsampling=0)
    expected = np.asarray(Image.open(io.BytesIO(plain)))
    content = plain[:2] + JPEG_METADATA[name] + plain[2:]
    _assert_pixels(_read(tmp_path, content), expected, atol=0)


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp"])
def test_color_profiles_are_ignored(tmp_path, form):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}
    image = Image.fromarray(COLORS)
    with_profile, without = (
        _read(tmp_path, _saved(image, form, **options.get(form, {}), **profiles))
        for profiles in ({"icc_profile": profile}, {})
    )
    np.testing.assert_array_equal(with_profile, without)


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp"])
def test_images_of_every_format_are_rotated_upright(tmp_path, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}
    stripes = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None] * 20, (12, 12, 3))
    content = _saved(Image.fromarray(stripes), form, exif=exif, **options.get(form, {}))
    _assert_pixels(_read(tmp_path, content), np.rot90(stripes, -1))


def test_an_orientation_that_does_not_exist_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    _assert_pixels(_read(tmp_path, _saved(Image.fromarray(COLORS), "png", exif=exif)), COLORS)


def test_reading_leaves_the_settings_of_pillow(tmp_path):
    _read(tmp_path, png(COLORS, PNG_METADATA["a large profile"]))
    assert PngImagePlugin.ImageFile.LOAD_TRUNCATED_IMAGES is False
    content = png(COLORS)
    with pytest.raises(InputError, match=r"cannot be used: 0\.png"):
        _read(tmp_path, content[: len(content) // 2])


# ---------------------------------------------------------------- 16 bits

CHANNELS = {"gray": 1, "gray and alpha": 2, "RGB": 3, "RGB and alpha": 4}


def _deep(channels: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random values of some bits in uint16, and the pixels that they stand for."""
    random = np.random.default_rng(channels)
    values = random.integers(0, 2**bits, (12, 12, channels)).astype(np.uint16)
    values[0, 0], values[-1, -1] = 0, 2**bits - 1
    colors = values[..., : channels - 1 if channels in (2, 4) else None] / (2**bits - 1) * 255
    if channels in (2, 4):
        alpha = values[..., -1:] / (2**bits - 1)
        colors = alpha * colors + (1 - alpha) * 255
    return values, colors


@pytest.mark.parametrize("name", CHANNELS)
def test_of_16_bits_the_upper_8_remain(tmp_path, name):
    values, expected = _deep(CHANNELS[name], 16)
    _assert_pixels(_read(tmp_path, png(values)), expected)
    _assert_pixels(_read(tmp_path, png(values), bits=16), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("name", CHANNELS)
def test_a_field_says_how_many_bits_are_used(tmp_path, name, bits):
    values, expected = _deep(CHANNELS[name], bits)
    _assert_pixels(_read(tmp_path, png(values), bits=bits), expected)


@pytest.mark.parametrize("name", ["gray and alpha", "RGB and alpha"])
def test_alpha_may_have_all_bits(tmp_path, name):
    values, _ = _deep(CHANNELS[name], 12)
    values[..., -1] = np.random.default_rng(3).integers(0, 2**16, (12, 12))
    values[..., -1].flat[0] = 2**16 - 1
    expected = _on_white(values[..., :-1] / 4095 * 255, values[..., -1:] / 65535 * 255)
    _assert_pixels(_read(tmp_path, png(values), bits=12), expected)


def _significant(channels: int, bits: int) -> bytes:
    return png_chunk(b"sBIT", bytes([bits] * channels))


@pytest.mark.parametrize("name", CHANNELS)
def test_the_significant_bits_of_a_png_are_obeyed(tmp_path, name):
    """As the standard says, values fill all 16 bits; some programs write them unscaled."""
    channels = CHANNELS[name]
    values, expected = _deep(channels, 12)
    declared = _significant(channels, 12)
    _assert_pixels(_read(tmp_path, png(values, declared)), expected)
    _assert_pixels(_read(tmp_path, png(values << 4, declared)), expected)
    _assert_pixels(_read(tmp_path, png(values << 4 | values >> 8, declared)), expected)
    dark = (values >> 4) << 4
    dark[..., -1] = 65520
    if channels in (1, 3):
        dark = np.minimum(values >> 4, 255) << 4
        _assert_pixels(_read(tmp_path, png(dark, declared)), dark / 65535 * 255)


@pytest.mark.parametrize("sbit", [b"", b"\0\0\0", b"\x28\x28\x28"])
def test_significant_bits_that_make_no_sense_are_none(tmp_path, sbit):
    values, expected = _deep(3, 16)
    _assert_pixels(_read(tmp_path, png(values, png_chunk(b"sBIT", sbit))), expected)


@pytest.mark.parametrize("name", ["gray", "RGB"])
def test_a_transparent_value_of_16_bits_becomes_white(tmp_path, name):
    values, expected = _deep(CHANNELS[name], 16)
    values[4, 5] = values[2, 3]
    values[4, 6] = values[2, 3] ^ 1
    expected = values / 65535 * 255
    expected[4, 5] = expected[2, 3] = 255
    key = np.zeros(3, ">u2") if name == "RGB" else np.zeros(1, ">u2")
    key[:] = values[2, 3]
    content = png(values, png_chunk(b"tRNS", key.tobytes()))
    _assert_pixels(_read(tmp_path, content), expected)


def _tiff(
    values: np.ndarray,
    bits: int,
    *,
    zero_is_white: bool = False,
    planar: bool = False,
    compressed: bool = False,
    signed: bool = False,
    fourth: int | None = None,
    order: str = "<",
) -> bytes:
    """Returns a TIFF of gray or RGB values, the last channel the fourth one if it has a kind.

    Values of 12 bits are packed.
    """
    height, width, channels = values.shape
    planes = np.split(values, channels, axis=-1) if planar else [values]
    strips = [plane.astype(f"{order}i{-(-bits // 16) * 2}").tobytes() for plane in planes]
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        strips = [bytes(x for a, b in pairs for x in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))]
    if compressed:
        strips = [zlib.compress(strip) for strip in strips]
    tags = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [8 if compressed else 1]),
        262: ("H", [2 if channels > 1 else 1 - zero_is_white]),
        273: ("I", [0] * len(strips)),
        277: ("H", [channels]),
        278: ("H", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [1 + planar]),
        **({} if fourth is None else {338: ("H", [fourth])}),
        339: ("H", [1 + signed] * channels),
    }
    start = 8 + 2 + 12 * len(tags) + 4
    sizes = [struct.calcsize(order + form * len(items)) for form, items in tags.values()]
    first = start + sum(size for size in sizes if size > 4)
    tags[273] = "I", [first + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries, further = b"", b""
    for tag, (form, items) in tags.items():
        content = struct.pack(order + form * len(items), *items)
        if len(content) > 4:
            offset, further = start + len(further), further + content
            content = struct.pack(f"{order}I", offset)
        kind = {"H": 3, "I": 4}[form]
        entries += struct.pack(f"{order}HHI", tag, kind, len(items)) + content.ljust(4, b"\0")
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    return head + entries + bytes(4) + further + b"".join(strips)


def test_the_bits_of_a_tiff_are_obeyed(tmp_path):
    values, expected = _deep(1, 12)
    _assert_pixels(_read(tmp_path, _tiff(values, 12)), expected)
    for channels in (1, 3):
        values, expected = _deep(channels, 16)
        _assert_pixels(_read(tmp_path, _tiff(values, 16)), expected)
        values, expected = _deep(channels, 12)
        _assert_pixels(_read(tmp_path, _tiff(values, 16), bits=12), expected)


def test_a_compressed_tiff_of_16_bits_is_read(tmp_path):
    values, expected = _deep(1, 12)
    content = _saved(Image.fromarray(values[..., 0]), "tiff", compression="tiff_lzw")
    _assert_pixels(_read(tmp_path, content, bits=12), expected)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_0_is_white_if_a_tiff_of_16_bits_says_so(tmp_path, bits, compressed):
    values, expected = _deep(1, bits)
    content = _tiff(values, 16, zero_is_white=True, compressed=compressed)
    _assert_pixels(_read(tmp_path, content, bits=bits), 255 - expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_integers_of_32_bits_are_clipped(tmp_path, compressed):
    values = np.resize(np.array([0, 1000, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1]), (12, 12, 1))
    content = _tiff(values.astype(np.uint32).view(np.int32), 32, compressed=compressed)
    _assert_pixels(_read(tmp_path, content), np.minimum(values, 65535) / 65535 * 255)
    signed = values.astype(np.uint32).view(np.int32)
    content = _tiff(signed, 32, signed=True, compressed=compressed)
    _assert_pixels(_read(tmp_path, content), np.clip(signed, 0, 65535) / 65535 * 255)


def _wide(content_of, values: np.ndarray) -> bytes:
    return content_of(np.append(values, np.full((12, 12, 1), 65535, np.uint16), axis=-1))


def _ppm(values: np.ndarray, largest: int = 65535) -> bytes:
    return b"P6 12 12 %d\n" % largest + values.astype(">u2").tobytes()


UPPER_8 = {
    "PPM": _ppm,
    "plain PPM": lambda values: b"P3 12 12 65535\n" + " ".join(map(str, values.flat)).encode(),
    "planar TIFF": lambda values: _tiff(values, 16, planar=True, compressed=True),
    "a fourth channel": lambda values: _wide(lambda x: _tiff(x, 16, fourth=0), values),
    "associated alpha": lambda values: _wide(lambda x: _tiff(x, 16, fourth=1, order=">"), values),
}


@pytest.mark.parametrize("name", UPPER_8)
def test_bits_are_refused_where_only_the_upper_8_can_be_read(tmp_path, name):
    values, expected = _deep(3, 16)
    for bits in (0, 16):
        _assert_pixels(_read(tmp_path, UPPER_8[name](values), bits=bits), expected)
    line = "only the upper 8 of 16 bits can be read, so bits must be 0, got 12"
    with pytest.raises(InputError, match=line):
        _read(tmp_path, UPPER_8[name](values >> 4), bits=12)


def test_bits_may_be_those_of_a_ppm(tmp_path):
    values, expected = _deep(3, 12)
    for bits in (0, 12):
        _assert_pixels(_read(tmp_path, _ppm(values, 4095), bits=bits), expected)
    _assert_pixels(_read(tmp_path, b"P6 12 12 255\n" + COLORS.tobytes(), bits=12), COLORS)


MISREAD = {
    "planar 16-bit TIFF without compression": {"planar": True},
    "compressed big-endian signed TIFF": {"signed": True, "order": ">", "compressed": True},
}


@pytest.mark.parametrize("name", MISREAD)
@pytest.mark.parametrize("bits", [0, 12, 16])
def test_a_tiff_that_pillow_misreads_is_refused(tmp_path, name, bits):
    values, _ = _deep(3 if "planar" in name else 1, 12)
    with pytest.raises(InputError, match=f"it is a {name}, which Pillow misreads"):
        _read(tmp_path, _tiff(values, 16, **MISREAD[name]), bits=bits)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_the_largest_value_of_a_pgm_is_obeyed(tmp_path, bits):
    values, expected = _deep(1, bits)
    content = b"P5 12 12 %d\n" % (2**bits - 1) + values.astype(">u2").tobytes()
    _assert_pixels(_read(tmp_path, content), expected)


@pytest.mark.parametrize("bits", [8, 12])
def test_values_of_more_bits_than_the_field_are_an_error(tmp_path, bits):
    values, _ = _deep(3, 14)
    with pytest.raises(InputError, match=rf"values up to 16,383, more than {bits} bits have"):
        _read(tmp_path, png(values), bits=bits)


@pytest.mark.parametrize("bits", [-1, 7, 17])
def test_the_field_has_bounds(tmp_path, bits):
    with pytest.raises(InputError, match=rf"bits must be 0 .* or 8 to 16, got {bits}"):
        _source(tmp_path, png(COLORS), bits=bits)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_largest_value_is_described_once(tmp_path, channels):
    values, _ = _deep(channels, 12)

    def line(content, **options):
        sources = (_source(tmp_path, content, split, **options) for split in ("train", "test"))
        return describe_counts(*sources)

    assert line(png(values)).endswith(
        "; nearly black: values of 16 bits are at most 4,095 in 3 images; bits=12 if no more are "
        "used"
    )
    for content in (png(values, _significant(channels, 12)), png(values << 3), png(COLORS)):
        assert "nearly black" not in line(content)
    assert "nearly black" not in line(png(values), bits=12)


def test_8_bits_are_8_bits_whatever_the_field_says(tmp_path):
    _assert_pixels(_read(tmp_path, png(COLORS), bits=12), COLORS, atol=0)


def test_large_pictures_are_decoded():
    """Telephones make pictures of 200 megapixels."""
    content = _saved(Image.new("1", (15_000, 14_000)), "png")
    assert decoding.decode(content).size == (15_000, 14_000)
