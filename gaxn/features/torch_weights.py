"""State dicts from PyTorch and safetensors files, read without PyTorch and without running code.

gaxn has its own reader for PyTorch files because PyTorch is not a dependency and a pickle is a
program that could do anything (`restricted_pickle`). Sizes are checked against the size of the file
before memory is allocated.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from gaxn.features import restricted_pickle
from gaxn.features.restricted_pickle import ERRORS, Function

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
"""First values of a file in the format of PyTorch before 1.6."""
ZIP, LEGACY = b"PK\x03\x04", pickle.dumps(MAGIC, 2)


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


class _Dict(dict):
    """An OrderedDict that ignores the metadata which `state_dict` attaches to it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage, offset, shape, strides, _requires_gradient=False, _hooks=None, metadata=None):
    if metadata:
        raise ValueError("it holds a negated or conjugated tensor")
    return _Tensor(storage, offset, shape, strides)


KNOWN = {
    "collections.OrderedDict": Function(_Dict),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(lambda tensor, *_: tensor),
    **{f"torch.{name}": _Type(dtype) for name, dtype in DTYPES.items()},
}


def read(content: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict by name, read-only; tensors that share memory still do.

    Args:
        content: of a file that `torch.save` wrote, in the zip format or in the older one.

    Raises:
        ValueError: it is not such a file, is damaged, or holds anything but tensors by name.
    """
    try:
        if content.startswith(ZIP):
            return _read_zip(content)
        if content.startswith(LEGACY):
            return _read_legacy(content)
    except ERRORS as error:
        raise ValueError(f"damaged or cut off ({type(error).__name__}: {error})") from None
    raise ValueError("not a PyTorch file")


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a safetensors file by name.

    Raises:
        ValueError: it is not such a file, is damaged, or has a dtype that NumPy lacks.
    """
    try:
        return safetensors.numpy.load(content)
    except KeyError as error:
        raise ValueError(f"its dtypes must be those of NumPy, got {error.args[0]}") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"damaged or cut off ({error})") from None


class _Unpickler(restricted_pickle.Unpickler):
    """An unpickler that creates only the records above; `storages` are those it refers to."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, KNOWN, "state dict")
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, reference: Any) -> _Storage:
        # Only the older format has the last field; it describes a view of a storage.
        kind, number_type, key, _, count, *view = reference
        if kind != "storage" or not isinstance(number_type, _Type) or any(view):
            raise ValueError("it refers to something other than an entire storage")
        if not isinstance(key, str) or not _are_sizes([count]):
            raise ValueError("it refers to a storage without a name or a size")
        storage = _Storage(key, number_type, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} has two types or sizes")
        return storage


def _unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """Returns the value of the next pickle in a stream, and the storages that it refers to."""
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: member for member in archive.infolist()}

        def get(name: str) -> bytes:
            # PyTorch does not compress; compressed data could be a thousand times as large.
            if members[name].compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} must not be compressed")
            return archive.read(members[name])

        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip, but not a PyTorch file: it has no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        order = get(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
        _check_byte_order(order == b"little")
        tensors, storages = _unpickle(io.BytesIO(get(pickles[0])))
        # Members of a zip may overlap, so each can be complete though the file is too small.
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
        raise ValueError(f"its protocol must be {PROTOCOL}, got {protocol!r}")
    _check_byte_order(system["little_endian"])
    tensors, storages = _unpickle(stream)
    keys, _ = _unpickle(stream)
    stored = {}
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        if count != storage.count:
            raise ValueError(
                f"damaged or cut off: storage {key} must have {storage.count} numbers, got {count}"
            )
        stored[key] = _numbers(storage, stream.read(_size(storage)))
    return _arrays(tensors, stored)


def _check_byte_order(is_little: bool) -> None:
    if not is_little:
        raise ValueError("its byte order must be little, got big")


def _size(storage: _Storage) -> int:
    """Returns the size in bytes."""
    return storage.count * np.dtype(storage.type.dtype).itemsize


def _numbers(storage: _Storage, content: bytes) -> np.ndarray:
    size, expected = len(content), _size(storage)
    if size != expected:
        raise ValueError(f"cut off: storage {storage.key} must have {expected} bytes, got {size}")
    return np.frombuffer(content, storage.type.dtype)


def _arrays(tensors: Any, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(tensors, dict):
        raise ValueError(f"it must hold a dict of tensors, got a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            entry = name if isinstance(name, str) else f"a key of type {type(name).__name__}"
            raise ValueError(f"it holds {entry}, which is not a tensor with a name")
    return {name: _array(name, tensor, stored) for name, tensor in tensors.items()}


def _array(name: str, tensor: _Tensor, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    storage, offset, shape, strides = tensor
    sizes = isinstance(shape, tuple) and isinstance(strides, tuple) and [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or not sizes or not _are_sizes(sizes):
        raise ValueError(f"{name} has no valid storage, offset, shape and strides")
    numbers = stored[storage.key]
    extents = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    if 0 in shape:
        return np.zeros(shape, numbers.dtype)
    if offset + sum(extents) >= len(numbers):
        raise ValueError(f"{name} lies outside its storage of {len(numbers)} numbers")
    if np.prod(shape, dtype=object) > len(numbers):
        raise ValueError(f"{name} has more numbers than its storage, {len(numbers)}")
    byte_strides = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, byte_strides, writeable=False)


def _are_sizes(numbers: list) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)
