"""Arrays from a file of PyTorch's, without PyTorch, and without running what is in the file.

A pickle is a program. Here it can do no more than put tensors into dicts: every name that it
looks up is one of five, and each of those stands for a record of ours.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""How a file of a PyTorch before 1.6 begins."""


class _Type(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: Any
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a state dict by their names.

    Args:
        content: of a file that `torch.save` wrote, in the zip format or the one before it.

    Raises:
        ValueError: it is none, is damaged, or holds anything else.
    """
    try:
        of_zip = zipfile.is_zipfile(io.BytesIO(content))
        found, storages = (_from_zip if of_zip else _from_stream)(io.BytesIO(content))
        if not isinstance(found, Mapping):
            raise ValueError("the file holds no dict of tensors")
        return {_name(name): _array(tensor, name, storages) for name, tensor in found.items()}
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise ValueError(f"the file is damaged, or none of PyTorch's ({error})") from None
    except (AttributeError, IndexError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"the file is damaged, or none of PyTorch's ({error})") from None


class _Reader(pickle.Unpickler):
    """Knows five names, and makes nothing but records."""

    def find_class(self, module: str, name: str) -> Callable:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch", "Size"): tuple,
        }
        if module == "torch" and name in TYPES:
            return _Type(name)
        if (module, name) not in known:
            raise ValueError(f"the file asks for {module}.{name}, which no state dict needs")
        return known[module, name]

    def persistent_load(self, reference: Any) -> _Storage:
        kind, storage_type, key, _, count, *_ = reference
        if kind != "storage" or not isinstance(storage_type, _Type):
            raise ValueError("the file refers to something other than a storage")
        return _Storage(str(key), np.dtype(TYPES[storage_type.name]), int(count))


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


def _from_zip(stream: io.BytesIO) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(stream) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("the file is a zip, but none of PyTorch's")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("the file is big-endian; valid is little")
        found = _Reader(io.BytesIO(archive.read(pickles[0]))).load()
        prefix = f"{root}data/"
        storages = {
            name.removeprefix(prefix): archive.read(name)
            for name in archive.namelist()
            if name.startswith(prefix)
        }
    return found, storages


def _from_stream(stream: io.BytesIO) -> tuple[Any, dict[str, bytes]]:
    if _Reader(stream).load() != MAGIC or _Reader(stream).load() != PROTOCOL:
        raise ValueError("the file is none of PyTorch's")
    if not _Reader(stream).load().get("little_endian", True):
        raise ValueError("the file is big-endian; valid is little")
    tensors = _Reader(stream)
    found = tensors.load()
    sizes = {tensor.storage.key: tensor.storage for tensor in found.values()}
    storages = {}
    for key in _Reader(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(count * sizes[key].dtype.itemsize)
    return found, storages


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the file has the key {name!r}; valid are names")
    return name


def _array(tensor: Any, name: str, storages: Mapping[str, bytes]) -> np.ndarray:
    if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
        raise ValueError(f"{name} is no tensor")
    content, dtype = storages[tensor.storage.key], tensor.storage.dtype
    there = len(content) // dtype.itemsize
    steps = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    last = tensor.offset + sum(steps)
    negative = min([tensor.offset, *tensor.shape, *tensor.strides]) < 0
    empty = 0 in tensor.shape
    if negative or (last >= there and not empty):
        raise ValueError(f"{name} lies outside its storage of {there} numbers")
    if np.prod(tensor.shape, dtype=object) > there:
        raise ValueError(f"{name} is larger than its storage of {there} numbers")
    if empty:
        return np.zeros(tensor.shape, dtype)
    flat = np.frombuffer(content, dtype, there)[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False).copy()
