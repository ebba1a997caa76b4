"""Images of a folder, or of a .zip of one."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import UnidentifiedImageError

from gaxn import data
from gaxn.data import (
    Problem,
    UnreadableError,
    decoding,
    find_path,
    image_preparation,
    layouts,
    printable,
)
from gaxn.data.classes import choose_tests, describe_untested
from gaxn.data.file_tree import Listing, is_image_name, list_files, read_ends, read_file
from gaxn.data.layouts import File, Layout
from gaxn.types import InputError, check

__all__ = ["Source", "is_image_name", "list_images", "read_image"]

END_BYTES = 64
"""First and last bytes of a file by which it looks complete."""

NORMAL_FORMS = ("NFC", "NFD")
"""Unicode: accents within their letters, and behind them, as macOS writes names."""

MEASURED_IMAGES = 16
"""Images of which the largest value is measured."""


@dataclasses.dataclass(frozen=True)
class Source(data.ImageFiles):
    """Images of any size, one folder per class; without labels if they are in no folder.

    `layouts.arrange` finds classes, splits and captions. If no folders are the splits, that of an
    image depends only on its path within its class (by CRC-32). Adding images moves none of the
    others, but in small classes: a class of two or more has an image in each split, which may
    change. A single image is for training. The split "all" has both.

    Images are decoded by `decoding.decode` and prepared by `image_preparation.prepare`.

    Attributes:
        path: path of the folder or the .zip, must be set; relative to the working directory or to
            the directory in the environment variable `GAXN_DATA`.
        size: height and width of the images, in pixels; 0 for the original size, the same for all.
        crop: side of the centered square, in pixels of the file; 0 for the largest one.
        channels: 3 for RGB, 1 for gray.
        test_share: share of the images in the test split, above 0 and below 1.
        classes: names of the classes to use; () for all.
        train_folder: name of the folder that is the training split, such as trainA, instead of a
            `test_share`; images then have no labels. "" for none.
        test_folder: name of the folder that is the test split, such as testA, together with
            train_folder; "" for none.
        split_by: "folders" if folders such as train and test are the splits; "share" if they are
            classes, divided by `test_share`; "auto" for folders if they hold the same classes and
            nothing is beside them, else an error if there are such folders.
        bits: bits of a value that are used, in files with more than 8 bits, such as 12; 0 for as
            many as the file says.
        skip_damaged: whether images that cannot be decoded are left out and counted. All images
            are read once before training to find them.
    """

    path: str = ""
    size: int = 64
    crop: int = 0
    channels: int = 3
    test_share: float = 0.1
    classes: tuple[str, ...] = ()
    train_folder: str = ""
    test_folder: str = ""
    split_by: str = "auto"
    bits: int = 0
    skip_damaged: bool = False

    splits = (*data.SPLITS, "all")
    remedy = "repair or remove them, or set skip_damaged=True"

    def __post_init__(self):
        super().__post_init__()
        image_preparation.check_sizes(self.size, self.crop)
        check("channels", self.channels, self.channels in (1, 3), "3 for RGB or 1 for gray")
        check("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        consistent = bool(self.train_folder) == bool(self.test_folder)
        check("test_folder", self.test_folder, consistent, "set if, and only if, train_folder is")
        consistent = not (self.classes and self.train_folder)
        check("classes", self.classes, consistent, "() with train_folder")
        modes = layouts.SPLIT_BY
        check("split_by", self.split_by, self.split_by in modes, " or ".join(modes))
        valid = self.bits == 0 or 8 <= self.bits <= 16
        check("bits", self.bits, valid, "0 (for as many as the file says) or 8 to 16")
        if not self._files:
            raise InputError(
                f"test_share must leave images for the {self.split} split, got {self.test_share} "
                f"of the {len(self._usable_files)} images in {self._root}"
            )

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        if self.size:
            return self.size, self.size, self.channels
        try:
            return self._read_image(self._files[0].name).shape
        except InputError as error:
            problem = Problem(self.name_example(0), str(error))
        self._raise_problems([problem])

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the images within the data set, in the order of their indices."""
        return tuple(file.name for file in self._files)

    @property
    def captions(self) -> tuple[str, ...]:
        """Texts of the images in the order of their indices, "" for none."""
        return tuple(file.caption for file in self._files)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Classes with an image for training; in the split "all", with any image."""
        files = self._usable_files
        present = {
            file.class_name for file in files if self.split == "all" or file.split == "train"
        }
        return tuple(name for name in self._layout.class_names if name in present)

    @functools.cached_property
    def identity(self) -> str:
        """Contains a checksum of the names, classes and sizes of all files."""
        name = (
            f"images {self._digest:08x} {image_preparation.describe(self.size, self.crop)} "
            f"channels={self.channels}"
        )
        if self.bits:
            name += f" bits={self.bits}"
        if self.classes:
            name += f" classes={','.join(sorted(self.classes))}"
        if self._damaged:
            name += f" without {len(self._damaged)} damaged"
        if self.train_folder:
            return f"{name} train={self.train_folder} test={self.test_folder}"
        if self._layout.has_splits:
            return f"{name} split_by=folders"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

    @functools.cached_property
    def counts(self) -> Mapping[str, int]:
        """Images of the split by class."""
        if not self.class_names:
            return {"images": len(self)}
        counts = collections.Counter(file.class_name for file in self._files)
        return {name: counts[name] for name in self.class_names}

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        damaged = list(self._damaged.values())
        return tuple(
            itertools.chain(
                self._layout.notes,
                self._describe_classes(),
                self._describe_depth(),
                [f"left out: {data.describe_problems(damaged)}"] if damaged else [],
                _describe_ignored(self._listing),
            )
        )

    def __len__(self) -> int:
        return len(self._files)

    @property
    def place(self) -> str:
        return str(self._root)

    def name_example(self, index: int) -> str:
        return printable(self._files[index].name)

    def read_example(self, index: int) -> tuple[np.ndarray, int]:
        file = self._files[index]
        image = self._read_image(file.name)
        if image.shape != self.image_shape:
            size, expected = (f"{w}x{h}" for h, w, _ in (image.shape, self.image_shape))
            raise InputError(
                f"it has {size} pixels, others have {expected}: images must be of one size, or "
                "size above 0"
            )
        return image, self.class_names.index(file.class_name) if self.class_names else 0

    def find_other_problems(self, is_resident: bool) -> list[Problem]:
        """Decodes the test split too if images are resident; else checks how all files end."""
        if self.skip_damaged or self.split != "train":
            return []
        files = [file for file in self._all_files if not is_resident or file.split == "test"]
        return list(self._find_problems(files, is_resident).values())

    def _find_problems(self, files: Sequence[File], is_complete: bool) -> dict[str, Problem]:
        """Returns files that cannot be decoded, by their names.

        Args:
            files: to check.
            is_complete: whether all are decoded, or only those that do not begin and end as a
                picture does.
        """

        def check_chunk(first: int) -> dict[str, Problem]:
            problems = {}
            for file in files[first : first + data.CHUNK]:
                if not is_complete and self._looks_complete(file.name):
                    continue
                try:
                    self._read_image(file.name)
                except InputError as error:
                    problems[file.name] = Problem(printable(file.name), str(error))
            return problems

        with ThreadPoolExecutor() as threads:
            chunks = threads.map(check_chunk, range(0, len(files), data.CHUNK))
            return dict(itertools.chain.from_iterable(chunk.items() for chunk in chunks))

    def _looks_complete(self, name: str) -> bool:
        with contextlib.suppress(Exception):
            ends = read_ends(self._root, name, END_BYTES)
            return decoding.looks_complete(*ends, self._listing.images[name])
        return False

    def _read_image(self, name: str) -> np.ndarray:
        return read_image(self._root, name, self.size, self.crop, self.channels, self.bits)

    @functools.cached_property
    def _root(self) -> Path:
        return find_path(self.path)

    @functools.cached_property
    def _listing(self) -> Listing:
        return list_files(self._root)

    @functools.cached_property
    def _layout(self) -> Layout:
        sidecars = {}
        for name in self._listing.sidecars:
            try:
                sidecars[name] = read_file(self._root, name)
            except Exception as error:  # noqa: BLE001
                # A damaged .zip raises errors of many types.
                raise InputError(
                    f"{printable(name)} cannot be read: {data.one_line(error)}"
                ) from None
        return layouts.arrange(
            self._listing.images, sidecars, self.split_by, self.train_folder, self.test_folder
        )

    @functools.cached_property
    def _all_files(self) -> list[File]:
        """The images of all splits, by class and then by path, each with its split."""
        files, names = self._layout.files, self._layout.class_names
        expected = f"a class of {self._root} ({', '.join(names) or 'none'})"
        forms = {unicodedata.normalize(form, name): name for name in names for form in NORMAL_FORMS}
        for name in self.classes:
            check("classes", name, name in tuple(forms), expected)
        if self.classes:
            chosen = {forms[name] for name in self.classes}
            files = [file for file in files if file.class_name in chosen]
        if self._layout.has_splits:
            return files
        ranks = [zlib.crc32(file.path.encode("utf-8", "surrogateescape")) for file in files]
        numbers = {name: number for number, name in enumerate(names or ("",))}
        groups = np.array([numbers[file.class_name] for file in files])
        tests = choose_tests(np.array(ranks), self.test_share * 2**32, groups)
        return [
            file._replace(split="test" if is_test else "train")
            for file, is_test in zip(files, tests, strict=True)
        ]

    @functools.cached_property
    def _digest(self) -> int:
        sizes = self._listing.images
        listing = [
            (file.class_name, file.path, sizes[file.name], *([file.caption] * bool(file.caption)))
            for file in self._all_files
        ]
        return zlib.crc32(repr(listing).encode())

    @functools.cached_property
    def _damaged(self) -> Mapping[str, Problem]:
        """Images that are left out, by their names."""
        if not self.skip_damaged:
            return {}
        everything = dataclasses.replace(
            self, split="all", skip_damaged=False, workers=0, resident_bytes=0
        )
        return _find_damaged(everything, self._digest)

    @functools.cached_property
    def _usable_files(self) -> list[File]:
        return [file for file in self._all_files if file.name not in self._damaged]

    @functools.cached_property
    def _files(self) -> list[File]:
        """The images of the split."""
        if self.split == "all":
            return self._usable_files
        names = self.class_names or ("",)
        return [
            file
            for file in self._usable_files
            if file.split == self.split and file.class_name in names
        ]

    def _describe_classes(self) -> Iterator[str]:
        """Yields which classes are in one split alone."""
        if self.split == "all":
            return
        splits = collections.defaultdict(set)
        for file in self._usable_files:
            splits[file.class_name].add(file.split)
        names = self._layout.class_names
        yield from describe_untested([name for name in names if splits[name] == {"train"}])
        for name in names:
            if splits[name] == {"test"}:
                yield f"{name} is left out, without an image for training"

    def _describe_depth(self) -> Iterator[str]:
        """Yields the largest value of some images with more than 8 bits, if it is small."""
        if self.bits:
            return
        step = -(-len(self._all_files) // MEASURED_IMAGES)
        depths = []
        for file in self._all_files[::step]:
            with contextlib.suppress(Exception):
                depths.append(decoding.measure_depth(read_file(self._root, file.name)))
        depths = [depth for depth in depths if depth]
        largest = max((value for _, value in depths), default=0)
        if depths and largest < 2 ** (min(bits for bits, _ in depths) - 2):
            yield (
                f"nearly black: values of 16 bits are at most {largest:,} in {len(depths)} images; "
                f"bits={max(8, largest.bit_length())} if no more are used"
            )


@functools.lru_cache(maxsize=8)
def _find_damaged(source: Source, digest: int) -> Mapping[str, Problem]:
    """Returns the images of a source that cannot be decoded; `digest` is that of its files."""
    files = source._all_files
    print(f"{source.place}: all {len(files):,} images are read once, to skip damaged ones")
    return source._find_problems(files, True)


def _describe_ignored(listing: Listing) -> Iterator[str]:
    """Yields how many files are no images, by their endings, and what else was skipped."""
    if listing.ignored:
        counts = sorted(listing.ignored.items(), key=lambda item: (-item[1], item[0]))
        endings = ", ".join(f"{printable(ending)} {count:,}" for ending, count in counts[:5])
        more = f" and {len(counts) - 5} more endings" if counts[5:] else ""
        total = sum(listing.ignored.values())
        yield f"{total:,} file{'s' * (total > 1)} passed over ({endings}{more})"
    if listing.skipped:
        skipped = (f"{reason} ({count:,})" for reason, count in sorted(listing.skipped.items()))
        yield f"passed over: {', '.join(skipped)}"


def read_image(
    root: Path, name: str, size: int, crop: int, channels: int, bits: int = 0
) -> UInt8[np.ndarray, "height width channels"]:
    """Reads and prepares an image.

    Args:
        root: a folder or a .zip.
        name: a path within.
        size, crop, channels: as in `image_preparation.prepare`.
        bits: as in `decoding.decode`.

    Raises:
        UnreadableError: the file cannot be opened; gives the reason only.
        InputError: it cannot be decoded; gives the reason only.
    """
    try:
        content = read_file(root, name)
    except OSError as error:
        raise UnreadableError(data.one_line(error)) from None
    except Exception as error:  # noqa: BLE001
        # A damaged .zip raises errors of many types.
        raise InputError(data.one_line(error)) from None
    try:
        image = decoding.decode(content, bits)
        return image_preparation.prepare(image, size, crop, channels)
    except UnidentifiedImageError:
        reason = "it is not an image that Pillow opens" if content else "it is empty"
    except Exception as error:  # noqa: BLE001
        # Decoders raise errors of every type on damaged files.
        reason = data.one_line(error)
    raise InputError(reason)


def list_images(root: Path) -> Iterable[str]:
    """Returns the names of the images in a folder or a .zip.

    Raises:
        InputError: it is neither a folder nor a .zip, or contains no image.
    """
    return list_files(root).images
