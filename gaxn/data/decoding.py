"""Decoding of picture files: by one rule for each format, as docs/data.md lists them."""

import io
import re
import sys
import warnings
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt16
from PIL import Image, ImageCms, ImageOps

from gaxn.types import InputError

# Telephones take pictures of 200 megapixels; Pillow refuses more than twice this number.
Image.MAX_IMAGE_PIXELS = 2**29
# Pillow warns of broken metadata, on which pixels do not depend.
warnings.filterwarnings("ignore", module=r"PIL\.")

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"

START_OF_SCAN = 0xDA
KEPT_SEGMENTS = {0xE0: 16, 0xE1: 2, 0xEE: 14}
"""By the marker of JFIF, EXIF and Adobe, the shortest complete segment."""

ORIENTATION = 0x0112
"""Tag of EXIF."""

BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR = 258, 262, 284
"""Tags of TIFF."""

GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""By the raw mode, the difference of two grays as Pillow scales them."""

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the orientation of EXIF."""

SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""By the order of bytes in a raw mode of Pillow, the order that exchanges both bytes."""


class _Deep(NamedTuple):
    """Values of a file with more than 8 bits each.

    Attributes:
        values: of each channel, the last one alpha if the mode has it.
        mode: of the image with 8 bits.
        bits: bits of a value that are used, as the file says.
    """

    values: UInt16[np.ndarray, "height width channels"]
    mode: str
    bits: int

    @property
    def colors(self) -> UInt16[np.ndarray, "height width channels"]:
        """The values without alpha."""
        return self.values[..., : -1 if self.mode in ("LA", "RGBA") else None]


def decode(content: bytes, bits: int = 0) -> Image.Image:
    """Decodes the first frame of a picture, upright and with 8 bits a value.

    Args:
        content: of the file.
        bits: bits of a value that are used, 8 to 16, in files with more than 8; 0 for as many as
            the file says.

    Raises:
        InputError: it has values of more bits, or of no known range; gives the reason only.
        Exception: it is damaged; Pillow raises errors of every type.
    """
    with _open(content) as image:
        covered = image.tile[0].extents if image.format == "GIF" else None
        bits_in_file = _count_bits(image)
        deep = _load(image, content)
        if image.mode == "F":
            raise InputError("its pixels are floating-point numbers, whose range is unknown")
        if deep is None and bits_in_file > 8 and bits not in (0, bits_in_file):
            raise InputError(
                f"of its values only the upper 8 of {bits_in_file} bits can be read, so bits must "
                f"be 0, got {bits}"
            )
        result = image if deep is None else _to_8_bits(deep, bits)
        if deep is not None and _tag(image, PHOTOMETRIC) == 0:
            # In these TIFF 0 is white, which Pillow obeys in those with 8 bits alone.
            result = ImageOps.invert(result)
        if covered:
            # Pillow fills the rest of the screen with some color of the palette.
            result = Image.new("RGBA", image.size)
            result.paste(image.convert("RGBA").crop(covered), covered)
        if result.mode == "LAB":
            profiles = map(ImageCms.createProfile, ("LAB", "sRGB"))
            result = ImageCms.profileToProfile(result, *profiles, outputMode="RGB")
        return _rotate_upright(result, image)


def measure_depth(content: bytes) -> tuple[int, int] | None:
    """Returns the bits that a file says its values have, and the largest value of a color.

    None of a file with 8 bits a value, and of one that cannot be decoded.
    """
    try:
        with _open(content) as image:
            deep = _load(image, content) if _is_deep(image) else None
    except Exception:  # noqa: BLE001
        return None
    return None if deep is None else (deep.bits, int(deep.colors.max()))


def looks_complete(head: bytes, tail: bytes, size: int) -> bool:
    """Returns whether a file begins and ends as a picture does, by its first and last bytes.

    False of formats without an end mark.
    """
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 <= size
    if head.startswith(PNG):
        return _is_intact(next(_png_chunks(head))[1]) and tail.endswith(b"IEND\xaeB`\x82")
    if head.startswith(JPEG):
        return tail.endswith(b"\xff\xd9")
    return head.startswith(b"GIF8") and tail.endswith(b";")


def _open(content: bytes) -> Image.Image:
    """Opens a picture without the metadata that pixels do not depend on."""
    if content.startswith(PNG):
        content = PNG + b"".join(
            chunk
            for name, chunk in _png_chunks(content)
            if name[0:1].isupper() or name == b"tRNS" or (name == b"eXIf" and _is_intact(chunk))
        )
    elif content.startswith(JPEG):
        content = _without_jpeg_metadata(content)
    return Image.open(io.BytesIO(content))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name of each chunk of a PNG, and the complete chunk."""
    position = len(PNG)
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        yield content[position + 4 : position + 8], content[position:end]
        position = end


def _is_intact(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _without_jpeg_metadata(content: bytes) -> bytes:
    """Removes segments of applications and comments, but those on colors and orientation."""
    position, segments = len(JPEG), [JPEG]
    while content[position : position + 1] == b"\xff" and position + 4 < len(content):
        marker = content[position + 1]
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if marker in (START_OF_SCAN, 0xFF) or length < 2:
            break
        segment = content[position : position + 2 + length]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or length >= KEPT_SEGMENTS.get(marker, 2**16):
            segments.append(segment)
        position += 2 + length
    return b"".join((*segments, content[position:]))


def _raw_mode(image: Image.Image) -> str:
    """Returns Pillow's name for the order of bits in a file that is open and not loaded."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str((*(arguments or ()), "")[0])


def _tag(image: Image.Image, tag: int) -> int | tuple[int, ...] | None:
    """Returns a tag of a TIFF; None of other formats."""
    return image.tag_v2.get(tag) if image.format == "TIFF" else None


def _count_bits(image: Image.Image) -> int:
    """Returns the bits of a value that an open TIFF or PPM says it has; 8 of other formats."""
    if image.format == "PPM":
        largest = image.tile[0].args[-1]
        return largest.bit_length() if isinstance(largest, int) else 8
    return max(_tag(image, BITS_PER_SAMPLE) or (8,))


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or ";16" in _raw_mode(image)


def _load(image: Image.Image, content: bytes) -> _Deep | None:
    """Loads an image; returns its values if they have more than 8 bits.

    Of values with 16 bits Pillow keeps the upper 8 if there are several channels: the lower ones
    are read as if bytes were in the other order.

    Raises:
        InputError: it is a TIFF that Pillow reads wrong.
    """
    raw_mode, mode = _raw_mode(image), image.mode
    is_planar = _tag(image, PLANAR) == 2 and len(image.getbands()) > 1
    if is_planar and _count_bits(image) > 8 and ";" not in raw_mode:
        raise InputError("it is a planar 16-bit TIFF without compression, which Pillow misreads")
    if raw_mode.endswith("BS") and image.tile[0].codec_name == "libtiff":
        raise InputError("it is a compressed big-endian signed TIFF, which Pillow misreads")
    image.load()
    if raw_mode in GRAY_STEPS and "transparency" in image.info:
        # Pillow compares scaled grays with the unscaled one.
        image.info["transparency"] *= GRAY_STEPS[raw_mode]
    if mode.startswith("I"):
        values = np.asarray(image, np.int32)
        if raw_mode == "I;32N":
            values = values.view(np.uint32)
        values = np.clip(values, 0, 2**16 - 1)[..., None]
        mode = "L"
    elif raw_mode == "LA;16B":
        pairs = _load_as("RGBA", content).astype(np.uint16)
        values, mode = pairs[..., ::2] * 256 + pairs[..., 1::2], "LA"
    elif (match := re.fullmatch(r"((?:RGBA?|CMYK);16)([BLN])", raw_mode)) and not is_planar:
        lower = _load_as(match[1] + SWAPPED[match[2]], content)
        values = np.asarray(image, np.uint16) * 256 + lower
    else:
        return None
    bits = _declared_bits(image, content, values[..., : -1 if mode.endswith("A") else None])
    if "transparency" in image.info:
        is_opaque = (values != image.info["transparency"]).any(axis=-1, keepdims=True)
        values, mode = np.append(values, is_opaque * (2**16 - 1), axis=-1), f"{mode}A"
    return _Deep(values.astype(np.uint16), mode, bits)


def _load_as(raw_mode: str, content: bytes) -> np.ndarray:
    with _open(content) as image:
        image.tile = [
            tile._replace(
                args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:])
            )
            for tile in image.tile
        ]
        return np.asarray(image)


def _declared_bits(image: Image.Image, content: bytes, colors: np.ndarray) -> int:
    """Returns the bits that are used, by the BitsPerSample of a TIFF or the sBIT of a PNG.

    The values of a PNG fill all 16 bits, of which sBIT says how many are significant. Some
    programs write them unscaled: none is too large, and they are not multiples.
    """
    if image.format == "TIFF":
        return min(16, _count_bits(image))
    chunks = dict(_png_chunks(content)) if content.startswith(PNG) else {}
    significant = max(chunks.get(b"sBIT", b"")[8:-4][: colors.shape[-1]], default=16)
    is_unscaled = colors.max() < 2**significant and (colors % 2 ** (16 - significant)).any()
    return significant if is_unscaled else 16


def _to_8_bits(deep: _Deep, bits: int) -> Image.Image:
    largest = int(deep.colors.max())
    if bits and largest >= 2**bits:
        raise InputError(f"it has values up to {largest:,}, more than {bits} bits have")
    bits = bits or deep.bits
    eight = (deep.values.astype(np.int32) << 8) >> bits
    if deep.values.max() >= 2**bits:
        # Only alpha has all bits.
        eight[..., -1] = deep.values[..., -1] >> 8
    height, width = eight.shape[:2]
    return Image.frombytes(deep.mode, (width, height), eight.astype(np.uint8).tobytes())


def _rotate_upright(result: Image.Image, image: Image.Image) -> Image.Image:
    """Rotates an image by the EXIF orientation of the picture that it comes from."""
    try:
        orientation = image.getexif().get(ORIENTATION)
        transpose = TRANSPOSES.get(orientation)
    except Exception:  # noqa: BLE001
        # EXIF that cannot be read does not count.
        return result
    return result if transpose is None else result.transpose(transpose)
