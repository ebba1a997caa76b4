"""Reading of PyTorch and safetensors files: equal to PyTorch, and other content is never run."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from damaged_files import damage

from gaxn.features import torch_weights

FORMATS = pytest.mark.parametrize("of_zip", [True, False], ids=["zip", "legacy"])


def _save(value, of_zip):
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=of_zip)
    return stream.getvalue()


def _tensors():
    torch = pytest.importorskip("torch")
    base = torch.arange(60, dtype=torch.float32)
    dtypes = {
        "float64": torch.float64,
        "float16": torch.float16,
        "int64": torch.int64,
        "int32": torch.int32,
        "int16": torch.int16,
        "int8": torch.int8,
        "uint8": torch.uint8,
        "bool": torch.bool,
    }
    return {
        "plain": torch.linspace(-1, 1, 12).reshape(3, 4),
        "base": base,
        "transposed": base.reshape(3, 4, 5).permute(2, 0, 1),
        "part": base[7:50:3],
        "one": base[59],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        **{name: torch.tensor([0, 1, 5]).to(dtype) for name, dtype in dtypes.items()},
    }


@FORMATS
def test_every_tensor_equals_that_of_torch_load(of_zip):
    torch = pytest.importorskip("torch")
    content = _save(_tensors(), of_zip)
    expected = torch.load(io.BytesIO(content))
    arrays = torch_weights.read(content)
    assert list(arrays) == list(expected)
    for name, tensor in expected.items():
        array = tensor.detach().numpy()
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


@FORMATS
def test_a_state_dict_of_modules_is_read(of_zip):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = network.state_dict()
    # It is an OrderedDict with an attribute, its metadata.
    arrays = torch_weights.read(_save(state, of_zip))
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


@FORMATS
def test_shared_storages_stay_shared_and_are_read_only(of_zip):
    arrays = torch_weights.read(_save(_tensors(), of_zip))
    assert np.shares_memory(arrays["base"], arrays["transposed"])
    assert not np.shares_memory(arrays["base"], arrays["plain"])
    with pytest.raises(ValueError, match="read-only"):
        arrays["base"][0] = 1


@FORMATS
def test_a_file_that_is_cut_off_anywhere_is_refused(of_zip):
    tensors = _tensors()
    content = _save({name: tensors[name] for name in ("plain", "base", "part", "bool")}, of_zip)
    assert torch_weights.read(content)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"^(damaged|cut off|not a PyTorch file)[^\n]*$"):
            torch_weights.read(content[:end])


@pytest.mark.filterwarnings("ignore:invalid escape")
@FORMATS
def test_a_damaged_file_raises_only_one_line_value_errors(of_zip):
    tensors = _tensors()
    content = _save({name: tensors[name] for name in ("plain", "base", "part", "bool")}, of_zip)
    for damaged in damage(content):
        try:
            torch_weights.read(damaged)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)


@FORMATS
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: [torch.ones(2)], "it must hold a dict of tensors, got a list"),
        (lambda torch: torch.ones(2), "it must hold a dict of tensors, got a _Tensor"),
        (lambda torch: {"a": 1}, "it holds a, which is not a tensor"),
        (lambda torch: {"a": {"b": torch.ones(2)}}, "it holds a, which is not a tensor"),
        (lambda torch: {1: torch.ones(2)}, "it holds a key of type int"),
        (lambda torch: torch.nn.Linear(1, 1), "it asks for torch.nn.modules.linear.Linear"),
        (lambda torch: {"a": torch.ones(2, dtype=torch.bfloat16)}, "torch.BFloat16Storage"),
        (lambda torch: {"a": torch.ones(2, dtype=torch.cfloat).conj()}, "torch.ComplexFloat"),
        (lambda torch: {"a": torch.ones(2, dtype=torch.cfloat).conj().imag}, "negated"),
        (lambda torch: {"a": torch.ones(1).expand(9)}, "a has more numbers than its storage, 1"),
    ],
)
def test_another_object_is_refused(of_zip, make, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=message):
        torch_weights.read(_save(make(torch), of_zip))


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n", pickle.dumps({"a": 1}), b"PK", b"\0" * 99]
)
def test_another_file_is_refused(content):
    with pytest.raises(ValueError, match=r"^not a PyTorch file$"):
        torch_weights.read(content)


# The tests below need no PyTorch: they write files in its formats by hand.
SIX = np.arange(6, dtype="<f4").tobytes()


class _Named:
    """A name in a module, existing or not, to be pickled."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Call:
    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class _Pickler(pickle._Pickler):
    """A pickler that also writes names that cannot be imported, any calls, and storages.

    It extends the Python pickler, because `save` of the C pickler cannot be overridden.
    """

    def save(self, value, *arguments, **named):
        if isinstance(value, _Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
            if value.state is not None:
                self.save(value.state)
                self.write(pickle.BUILD)
        elif isinstance(value, _Reference):
            self.save(value.content)
            self.write(pickle.BINPERSID)
        else:
            super().save(value, *arguments, **named)


class _Reference:
    def __init__(self, *content):
        self.content = content


def _pickled(value):
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return stream.getvalue()


REBUILD = _Named("torch._utils", "_rebuild_tensor_v2")
FLOATS = _Named("torch", "FloatStorage")


def _storage(key="0", count=6):
    return _Reference("storage", FLOATS, key, "cpu", count)


def _tensor(offset=0, shape=(2, 3), strides=(3, 1), storage=None):
    return _Call(REBUILD, storage or _storage(), offset, shape, strides, False, {})


def _zipped(program, compression=zipfile.ZIP_STORED, **files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in {"data.pkl": program, "data/0": SIX, **files}.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _legacy(program, little=True, keys=("0",), count=6, numbers=SIX):
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}
    head = b"".join(map(_pickled, (torch_weights.MAGIC, torch_weights.PROTOCOL, system)))
    return head + program + _pickled(list(keys)) + struct.pack("<q", count) + numbers


WRAPPED = pytest.mark.parametrize("wrap", [_zipped, _legacy])


@WRAPPED
def test_a_tensor_written_by_hand_is_read(wrap):
    arrays = torch_weights.read(wrap(_pickled({"a": _tensor()})))
    np.testing.assert_array_equal(arrays["a"], [[0, 1, 2], [3, 4, 5]])
    arrays = torch_weights.read(wrap(_pickled({"a": _tensor(1, (2, 2), (1, 3))})))
    np.testing.assert_array_equal(arrays["a"], [[1, 4], [2, 5]])


@WRAPPED
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("gaxn.features.torch_weights", "read"),
        ("collections", "OrderedDict.__init__"),
    ],
)
def test_a_program_in_a_file_does_not_run(tmp_path, wrap, module, name):
    target = tmp_path / "ran"
    call = _Call(_Named(module, name), f"touch {target}")
    for value in (call, {"a": call}, {"a": _tensor(), "b": call}, _Named(module, name)):
        with pytest.raises(ValueError, match=f"^it asks for {module}.{name}, which no state dict"):
            torch_weights.read(wrap(_pickled(value)))
    assert not target.exists()


@WRAPPED
def test_the_same_program_runs_in_the_unpickler_of_python(tmp_path, wrap):
    """Checks that the test above could fail."""
    target = tmp_path / "ran"
    program = _pickled(_Call(_Named("os", "system"), f"touch {target}"))
    assert program in wrap(program)
    pickle.loads(program)
    assert target.exists()


@WRAPPED
def test_a_pickle_cannot_modify_the_records(wrap):
    """Tries BUILD, which sets attributes, also of functions, and the state of a NumPy dtype."""
    for target in (REBUILD, FLOATS, _Named("collections", "OrderedDict")):
        for state in ({"make": 1}, (None, {"make": 1, "__defaults__": ()}), (3, "<", None)):
            change = _Call(target, state=state)
            program = _pickled({"a": _tensor()})[:-1] + _pickled(change)[2:]
            # Removes the call, so that BUILD applies to the name itself.
            program = program.replace(b")R", b"")
            with pytest.raises(ValueError):
                torch_weights.read(wrap(program))
    assert torch_weights.read(wrap(_pickled({"a": _tensor()})))["a"].shape == (2, 3)


@WRAPPED
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (_tensor(1), "a lies outside its storage of 6 numbers"),
        (_tensor(6, (1,), (1,)), "lies outside"),
        (_tensor(0, (7,), (1,)), "lies outside"),
        (_tensor(0, (2, 3), (4, 1)), "lies outside"),
        (_tensor(1 << 80, (1,), (1,)), "lies outside"),
        (_tensor(0, (2,), (1 << 62,)), "lies outside"),
        (_tensor(0, (1 << 40,), (0,)), "has more numbers"),
        (_tensor(0, (3, 3), (0, 1)), "has more numbers"),
        (_tensor(-1, (1,), (1,)), "no valid storage"),
        (_tensor(5, (2,), (-1,)), "no valid storage"),
        (_tensor(0, (-2,), (1,)), "no valid storage"),
        (_tensor(0, (2.0,), (1,)), "no valid storage"),
        (_tensor(0, [2], [1]), "no valid storage"),
        (_tensor(0, (2, 3), (1,)), "damaged|argument"),
        (_tensor(0, (0, 1 << 62), (1, 1)), "too big|too large|maximum"),
        (_tensor(storage="0"), "no valid storage|damaged"),
        (_tensor(storage=_storage(count=-1)), "without a name or a size"),
        (_tensor(storage=_storage(key=7)), "without a name or a size"),
        (_tensor(storage=_storage(count=1 << 60)), "cut off"),
        (_tensor(storage=_storage(count=7)), "cut off"),
        (_tensor(storage=_storage(count=5)), "cut off"),
        (_tensor(storage=_storage(key="9")), "damaged"),
        (
            _tensor(storage=_Reference("module", FLOATS, "0", "cpu", 6)),
            "other than an entire storage",
        ),
        (
            _tensor(storage=_Reference("storage", "float", "0", "cpu", 6)),
            "other than an entire storage",
        ),
        (
            _tensor(storage=_Reference("storage", FLOATS, "0", "cpu", 6, ("1", 0, 3))),
            "other than an entire storage",
        ),
    ],
)
def test_tensors_outside_their_storages_are_refused(wrap, tensor, message):
    with pytest.raises(ValueError, match=message):
        torch_weights.read(wrap(_pickled({"a": tensor})))


def test_a_storage_of_two_sizes_is_refused():
    two = {"a": _tensor(), "b": _tensor(0, (5,), (1,), _storage(count=5))}
    with pytest.raises(ValueError, match="storage 0 has two types or sizes"):
        torch_weights.read(_zipped(_pickled(two)))


@WRAPPED
@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02Nr" + struct.pack("<I", 1 << 24) + b".",
        b"\x80\x02Np%d\n." % (1 << 24),
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 28) + b"a.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 28) + b"a.",
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 28) + b"a.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 28) + b"N.",
    ],
    ids=["memo", "memo in text", "bytes", "text", "bytearray", "number", "frame"],
)
def test_a_small_file_cannot_allocate_much_memory(wrap, program):
    content = wrap(program)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            torch_weights.read(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_a_compressed_zip_is_refused():
    program = _pickled({"a": _tensor()})
    with pytest.raises(ValueError, match="must not be compressed"):
        torch_weights.read(_zipped(program, zipfile.ZIP_DEFLATED))


def test_members_that_overlap_are_refused():
    """Stores two storages in the space of one; thousands would be possible."""
    both = {str(key): _tensor(0, (9,), (1,), _storage(str(key), 9_000)) for key in (0, 1)}
    files = {"data/0": bytes(36_000), "data/1": bytes(36_000)}
    content = _zipped(_pickled(both), **files)
    assert torch_weights.read(content)["1"].shape == (9,)
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream) as archive:
        first, second = (archive.getinfo(f"archive/data/{key}").header_offset for key in (0, 1))
        end = archive.start_dir
    directory = content[end:].replace(struct.pack("<I", second), struct.pack("<I", first))
    # The last but one entry of the file is the start of the directory.
    start = struct.pack("<I", end - 36_000)
    overlapping = (
        content[:second] + content[second + 36_000 : end] + directory[:-6] + start + b"\0\0"
    )
    with pytest.raises(ValueError, match="larger than the file"):
        torch_weights.read(overlapping)


def test_big_endian_files_are_refused():
    program = _pickled({"a": _tensor()})
    assert torch_weights.read(_zipped(program, byteorder=b"little"))
    for content in (_zipped(program, byteorder=b"big"), _legacy(program, little=False)):
        with pytest.raises(ValueError, match="byte order must be little, got big"):
            torch_weights.read(content)


def test_a_zip_without_a_pickle_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images/1.png", b"")
    with pytest.raises(ValueError, match="a zip, but not a PyTorch file"):
        torch_weights.read(stream.getvalue())


def test_another_protocol_is_refused():
    content = _legacy(_pickled({})).replace(_pickled(1001), _pickled(1002), 1)
    with pytest.raises(ValueError, match="protocol must be 1001, got 1002"):
        torch_weights.read(content)


SAFETENSORS = safetensors.numpy.save({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 3))})


def test_safetensors_are_read():
    arrays = torch_weights.read_safetensors(SAFETENSORS)
    np.testing.assert_array_equal(arrays["a"], np.arange(6, dtype=np.float32), strict=True)
    np.testing.assert_array_equal(arrays["b"], np.ones((2, 3)), strict=True)


def test_a_safetensors_file_that_is_cut_off_anywhere_is_refused():
    for end in range(len(SAFETENSORS)):
        with pytest.raises(ValueError, match=r"^damaged or cut off[^\n]*$"):
            torch_weights.read_safetensors(SAFETENSORS[:end])


def test_safetensors_of_a_dtype_that_numpy_lacks_are_refused():
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    with pytest.raises(ValueError, match="must be those of NumPy, got BF16"):
        torch_weights.read_safetensors(struct.pack("<Q", len(header)) + header + b"\0\0")
