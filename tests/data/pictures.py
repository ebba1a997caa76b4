"""Small pictures for tests: folders, archives and files byte by byte."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 12, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def fill(root: Path, *folders: str, count: int = 12) -> Path:
    """Writes `count` random 12x12 images per folder; the folder "" is `root` itself."""
    for number, name in enumerate(folders):
        for index in range(count):
            save(root / name / f"{index:03d}.png", noise(1000 * number + index))
    return root


def zip_folder(root: Path, top: str = "", separator: str = "/") -> Path:
    """Writes the .zip of a folder, with its files in a folder `top` if given."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                name = (Path(top) / file.relative_to(root)).as_posix()
                archive.writestr(name.replace("/", separator), file.read_bytes())
    return path


def png_chunk(name: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(values: np.ndarray, chunks: bytes = b"") -> bytes:
    """Returns a PNG of uint8 or uint16 values, [height, width, 1 to 4], with further chunks."""
    height, width, channels = values.shape
    color, depth = {1: 0, 2: 4, 3: 2, 4: 6}[channels], 8 * values.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            chunks,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        )
    )
