"""PyTorch's files are read as PyTorch reads them; what is no state dict is refused, and not run."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from gaxn import torch_weights

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
def test_every_tensor_is_as_torch_loads_it(of_zip):
    torch = pytest.importorskip("torch")
    content = _save(_tensors(), of_zip)
    expected = torch.load(io.BytesIO(content))
    found = torch_weights.read(content)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = tensor.detach().numpy()
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@FORMATS
def test_a_state_dict_of_modules(of_zip):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = network.state_dict()
    # An OrderedDict with an attribute, its metadata.
    found = torch_weights.read(_save(state, of_zip))
    assert list(found) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@FORMATS
def test_shared_storages_stay_shared_and_cannot_be_written(of_zip):
    found = torch_weights.read(_save(_tensors(), of_zip))
    assert np.shares_memory(found["base"], found["transposed"])
    assert not np.shares_memory(found["base"], found["plain"])
    with pytest.raises(ValueError, match="read-only"):
        found["base"][0] = 1


@FORMATS
def test_a_file_that_was_cut_anywhere_is_refused(of_zip):
    tensors = _tensors()
    content = _save({name: tensors[name] for name in ("plain", "base", "part", "bool")}, of_zip)
    assert torch_weights.read(content)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"^(damaged|cut off|not a file of PyTorch's)[^\n]*$"):
            torch_weights.read(content[:end])


@pytest.mark.filterwarnings("ignore:invalid escape")
@FORMATS
def test_damage_is_never_another_error(of_zip):
    tensors = _tensors()
    content = _save({name: tensors[name] for name in ("plain", "base", "part", "bool")}, of_zip)
    random = np.random.default_rng(0)
    for _ in range(2_000):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        try:
            torch_weights.read(bytes(damaged))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)


@FORMATS
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: [torch.ones(2)], "it holds a list; valid is a dict of tensors"),
        (lambda torch: torch.ones(2), "it holds a _Tensor"),
        (lambda torch: {"a": 1}, "it holds a, which is no tensor"),
        (lambda torch: {"a": {"b": torch.ones(2)}}, "it holds a, which is no tensor"),
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
    with pytest.raises(ValueError, match=r"^not a file of PyTorch's$"):
        torch_weights.read(content)


# What follows needs no PyTorch: files as it writes them, by hand.
SIX = np.arange(6, dtype="<f4").tobytes()


class _Named:
    """Pickles as a name of a module, whether or not there is such a thing."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Call:
    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class _Pickler(pickle._Pickler):
    """Writes names that cannot be imported, calls of anything, and storages.

    The pickler in Python has what the one in C lacks: `save` can be extended.
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
def test_a_tensor_by_hand(wrap):
    found = torch_weights.read(wrap(_pickled({"a": _tensor()})))
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    found = torch_weights.read(wrap(_pickled({"a": _tensor(1, (2, 2), (1, 3))})))
    np.testing.assert_array_equal(found["a"], [[1, 4], [2, 5]])


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
        ("gaxn.torch_weights", "read"),
        ("collections", "OrderedDict.__init__"),
    ],
)
def test_a_program_does_not_run(tmp_path, wrap, module, name):
    target = tmp_path / "ran"
    call = _Call(_Named(module, name), f"touch {target}")
    for value in (call, {"a": call}, {"a": _tensor(), "b": call}, _Named(module, name)):
        with pytest.raises(ValueError, match=f"^it asks for {module}.{name}, which no state dict"):
            torch_weights.read(wrap(_pickled(value)))
    assert not target.exists()


@WRAPPED
def test_a_program_would_run_elsewhere(tmp_path, wrap):
    """Else the test above would show nothing."""
    target = tmp_path / "ran"
    program = _pickled(_Call(_Named("os", "system"), f"touch {target}"))
    assert program in wrap(program)
    pickle.loads(program)
    assert target.exists()


@WRAPPED
def test_nothing_of_ours_can_be_altered(wrap):
    """BUILD sets attributes, of a function too, and the state of a NumPy dtype."""
    for target in (REBUILD, FLOATS, _Named("collections", "OrderedDict")):
        for state in ({"make": 1}, (None, {"make": 1, "__defaults__": ()}), (3, "<", None)):
            altered = _Call(target, state=state)
            program = _pickled({"a": _tensor()})[:-1] + _pickled(altered)[2:]
            # Without the call: the name itself is what is built.
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
        (_tensor(-1, (1,), (1,)), "that fit"),
        (_tensor(5, (2,), (-1,)), "that fit"),
        (_tensor(0, (-2,), (1,)), "that fit"),
        (_tensor(0, (2.0,), (1,)), "that fit"),
        (_tensor(0, [2], [1]), "that fit"),
        (_tensor(0, (2, 3), (1,)), "damaged|argument"),
        (_tensor(0, (0, 1 << 62), (1, 1)), "too big|too large|maximum"),
        (_tensor(storage="0"), "that fit|damaged"),
        (_tensor(storage=_storage(count=-1)), "without a name or a size"),
        (_tensor(storage=_storage(key=7)), "without a name or a size"),
        (_tensor(storage=_storage(count=1 << 60)), "cut off"),
        (_tensor(storage=_storage(count=7)), "cut off"),
        (_tensor(storage=_storage(count=5)), "cut off"),
        (_tensor(storage=_storage(key="9")), "damaged"),
        (_tensor(storage=_Reference("module", FLOATS, "0", "cpu", 6)), "other than a whole"),
        (_tensor(storage=_Reference("storage", "float", "0", "cpu", 6)), "other than a whole"),
        (
            _tensor(storage=_Reference("storage", FLOATS, "0", "cpu", 6, ("1", 0, 3))),
            "other than a whole",
        ),
    ],
)
def test_what_is_not_there_is_refused(wrap, tensor, message):
    with pytest.raises(ValueError, match=message):
        torch_weights.read(wrap(_pickled({"a": tensor})))


def test_a_storage_of_two_sizes_is_refused():
    two = {"a": _tensor(), "b": _tensor(0, (5,), (1,), _storage(count=5))}
    with pytest.raises(ValueError, match="storage 0 is of two types or sizes"):
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
def test_a_bomb_takes_no_memory(wrap, program):
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
    with pytest.raises(ValueError, match="compressed; valid is stored"):
        torch_weights.read(_zipped(program, zipfile.ZIP_DEFLATED))


def test_members_that_overlap_are_refused():
    """Two storages in the room of one: thousands could be."""
    both = {str(key): _tensor(0, (9,), (1,), _storage(str(key), 9_000)) for key in (0, 1)}
    files = {"data/0": bytes(36_000), "data/1": bytes(36_000)}
    content = _zipped(_pickled(both), **files)
    assert torch_weights.read(content)["1"].shape == (9,)
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream) as archive:
        first, second = (archive.getinfo(f"archive/data/{key}").header_offset for key in (0, 1))
        end = archive.start_dir
    directory = content[end:].replace(struct.pack("<I", second), struct.pack("<I", first))
    # Where the directory begins is the last but one entry of the file.
    start = struct.pack("<I", end - 36_000)
    overlapping = (
        content[:second] + content[second + 36_000 : end] + directory[:-6] + start + b"\0\0"
    )
    with pytest.raises(ValueError, match="larger than the file"):
        torch_weights.read(overlapping)


def test_the_other_byte_order_is_refused():
    program = _pickled({"a": _tensor()})
    assert torch_weights.read(_zipped(program, byteorder=b"little"))
    for content in (_zipped(program, byteorder=b"big"), _legacy(program, little=False)):
        with pytest.raises(ValueError, match="byte order is big; valid is little"):
            torch_weights.read(content)


def test_a_zip_of_something_else_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images/1.png", b"")
    with pytest.raises(ValueError, match="a zip, but not a file of PyTorch's"):
        torch_weights.read(stream.getvalue())


def test_another_protocol_is_refused():
    content = _legacy(_pickled({})).replace(_pickled(1001), _pickled(1002), 1)
    with pytest.raises(ValueError, match="not of the protocol 1001"):
        torch_weights.read(content)
