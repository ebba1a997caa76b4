"""State dicts from files of PyTorch's, without PyTorch and without running what is in them.

A pickle is a program. Here the only names that it can look up are those of a state dict, each
stands for a record that cannot be altered, and no size is believed before it was checked against
what is there.
"""

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""How the format of PyTorch before 1.6 begins."""
ZIP, LEGACY = b"PK\x03\x04", pickle.dumps(MAGIC, 2)

ERRORS = (
    *(AttributeError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError),
    *(TypeError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
)
"""What reading a pickle or a zip that is not well formed raises besides ValueError."""


class _Type(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    key: str
    type: _Type
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Callable(NamedTuple):
    """What a name stands for: a pickle can set attributes of a function, but not of a tuple."""

    make: Callable

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


class _Dict(dict):
    """An OrderedDict; the metadata that `state_dict` gives it are passed over."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(
    storage: _Storage,
    offset: int,
    shape: tuple,
    strides: tuple,
    requires_gradient: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> _Tensor:
    if metadata:
        raise ValueError("it holds a tensor that is read negated or conjugated")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


KNOWN = {
    "collections.OrderedDict": _Callable(_Dict),
    "torch._utils._rebuild_tensor_v2": _Callable(_tensor),
    "torch._utils._rebuild_parameter": _Callable(_parameter),
    **{f"torch.{name}": _Type(dtype) for name, dtype in DTYPES.items()},
}


def read(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a state dict by their names, read-only; shared storages stay shared.

    Args:
        content: of a file that `torch.save` wrote, in the zip format or the one before it.

    Raises:
        ValueError: it is no such file, was cut off, or holds anything but tensors by name.
    """
    if content.startswith(ZIP):
        reader = _read_zip
    elif content.startswith(LEGACY):
        reader = _read_legacy
    else:
        raise ValueError("not a file of PyTorch's")
    try:
        return reader(content)
    except ERRORS as error:
        raise ValueError(f"damaged or cut off ({type(error).__name__}: {error})") from None


class _Unpickler(pickle.Unpickler):
    """Makes nothing but records.

    Attributes:
        storages: those that the pickle refers to, by key.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = KNOWN.get(f"{module}.{name}")
        if found is None:
            raise ValueError(f"it asks for {module}.{name}, which no state dict needs")
        return found

    def persistent_load(self, reference: Any) -> _Storage:
        # The last, which only the older format has, is of a view of a storage.
        kind, kind_of_number, key, _, count, *view = reference
        if kind != "storage" or not isinstance(kind_of_number, _Type) or any(view):
            raise ValueError("it refers to something other than a whole storage")
        if not isinstance(key, str) or not _are_sizes([count]):
            raise ValueError("it refers to a storage without a name or a size")
        storage = _Storage(key, kind_of_number, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} is of two types or sizes")
        return storage


def _unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickle in a stream, and the storages that it refers to."""
    start = stream.tell()
    try:
        steps = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream)]
    except ValueError as error:
        raise ValueError(f"damaged or cut off ({error})") from None
    for count, (name, argument) in enumerate(steps):
        # Ten bytes that put one entry at 2**32 would make the unpickler take 64 GiB.
        if name.endswith("PUT") and argument > count:
            raise ValueError(f"damaged: its memo has a place {argument} after {count} steps")
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: member for member in archive.infolist()}

        def get(name: str) -> bytes:
            # PyTorch does not compress; what is compressed may be a thousand times as large.
            if members[name].compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed; valid is stored")
            return archive.read(members[name])

        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip, but not a file of PyTorch's: it has no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        order = get(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
        _require_little(order == b"little")
        tensors, storages = _unpickle(io.BytesIO(get(pickles[0])))
        # Members may overlap, so that each is there and all of them are not.
        if sum(_size(storage) for storage in storages.values()) > len(content):
            raise ValueError("cut off: its storages are larger than the file")
        stored = {
            key: _numbers(storage, get(f"{root}data/{key}")) for key, storage in storages.items()
        }
    return _arrays(tensors, stored)


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(content)
    (_, _), (protocol, _), (system, _) = (_unpickle(stream) for _ in range(3))
    if protocol != PROTOCOL:
        raise ValueError(f"it is not of the protocol {PROTOCOL}")
    _require_little(system["little_endian"])
    tensors, storages = _unpickle(stream)
    keys, _ = _unpickle(stream)
    stored = {}
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        if count != storage.count:
            raise ValueError(
                f"damaged or cut off: storage {key} has {count} numbers, not {storage.count}"
            )
        stored[key] = _numbers(storage, stream.read(_size(storage)))
    return _arrays(tensors, stored)


def _require_little(is_little: bool) -> None:
    if not is_little:
        raise ValueError("its byte order is big; valid is little")


def _size(storage: _Storage) -> int:
    """In bytes."""
    return storage.count * np.dtype(storage.type.dtype).itemsize


def _numbers(storage: _Storage, content: bytes) -> np.ndarray:
    there, announced = len(content), _size(storage)
    if there != announced:
        raise ValueError(f"cut off: storage {storage.key} has {there} bytes; valid is {announced}")
    return np.frombuffer(content, storage.type.dtype)


def _arrays(tensors: Any, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(tensors).__name__}; valid is a dict of tensors")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            shown = name if isinstance(name, str) else f"a key of type {type(name).__name__}"
            raise ValueError(f"it holds {shown}, which is no tensor with a name")
    return {name: _array(name, tensor, stored) for name, tensor in tensors.items()}


def _array(name: str, tensor: _Tensor, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    storage, offset, shape, strides = tensor
    sizes = isinstance(shape, tuple) and isinstance(strides, tuple) and [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or not sizes or not _are_sizes(sizes):
        raise ValueError(f"{name} has no storage, offset, shape and strides that fit")
    numbers = stored[storage.key]
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    if 0 in shape:
        return np.zeros(shape, numbers.dtype)
    if offset + sum(steps) >= len(numbers):
        raise ValueError(f"{name} lies outside its storage of {len(numbers)} numbers")
    if np.prod(shape, dtype=object) > len(numbers):
        raise ValueError(f"{name} has more numbers than its storage, {len(numbers)}")
    step = [stride * numbers.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided
    return view(numbers[offset:], shape, step, writeable=False)


def _are_sizes(numbers: list) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)
