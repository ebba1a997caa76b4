"""Files of PyTorch's are read as PyTorch reads them, and what is no state dict is refused."""

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest

from gaxn import torch_weights


@pytest.fixture
def saved():
    """A function from a value to the content of a file."""
    torch = pytest.importorskip("torch")

    def save(value, new_format=True):
        stream = io.BytesIO()
        torch.save(value, stream, _use_new_zipfile_serialization=new_format)
        return stream.getvalue()

    return save


def _tensors():
    import torch

    base = torch.arange(24, dtype=torch.float32)
    return {
        "plain": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "scalar": torch.tensor(7),
        "transposed": base.reshape(4, 6).T,
        "part of it": base[5:11:2],
        "expanded": torch.ones(3, 1)[:, :1],
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "half": torch.ones(5, dtype=torch.float16),
        "double": torch.full((2,), 0.1, dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("new_format", [True, False])
def test_every_tensor_is_what_it_was(saved, new_format):
    tensors = collections.OrderedDict(_tensors())
    found = torch_weights.read(saved(tensors, new_format))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().numpy()
        assert found[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_a_network_of_torch(saved):
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    found = torch_weights.read(saved(network.state_dict()))
    assert found.keys() == network.state_dict().keys()
    np.testing.assert_array_equal(found["0.weight"], network[0].weight.detach().numpy())


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_that_was_cut_is_refused(saved, new_format, share):
    content = saved({"a": _tensors()["plain"], "b": _tensors()["double"]}, new_format)
    with pytest.raises(ValueError, match=r"damaged|none of PyTorch's|outside its storage"):
        torch_weights.read(content[: int(share * len(content))])


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {1: 2}, {"a": {"b": 1}}, "text"])
def test_what_is_no_state_dict_is_refused(saved, value):
    with pytest.raises(ValueError):
        torch_weights.read(saved(value))


def _zipped(program, **files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in files.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", content)
    return stream.getvalue()


class _Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("wrap", [_zipped, lambda program: program])
def test_a_program_in_the_file_does_not_run(tmp_path, wrap):
    import os

    target = tmp_path / "ran"
    for call, arguments in (
        (os.system, (f"touch {target}",)),
        (eval, (f"open({str(target)!r}, 'w')",)),
        (open, (str(target), "w")),
        (getattr, ("text", "upper")),
    ):
        with pytest.raises(ValueError, match="which no state dict needs"):
            torch_weights.read(wrap(pickle.dumps(_Malicious(call, *arguments))))
    assert not target.exists()


def _program(shape, strides, offset=0, key="0", count=6):
    """The pickle of one tensor, written opcode by opcode."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    storage += b"X\x01\x00\x00\x00" + key.encode() + b"X\x03\x00\x00\x00cpu"
    storage += b"I%d\ntQ" % count
    numbers = b"".join(b"I%d\n" % number for number in shape)
    steps = b"".join(b"I%d\n" % number for number in strides)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I%d\n(" % offset + numbers
    tensor += b"t(" + steps + b"tI00\n}tR"
    return b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."


SIX = np.arange(6, dtype="<f4").tobytes()


def test_a_tensor_written_by_hand():
    found = torch_weights.read(_zipped(_program((2, 3), (3, 1)), data__0=SIX))
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((2, 3), (3, 1), 1),
        ((2, 4), (3, 1), 0),
        ((7,), (1,), 0),
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
        ((1 << 40,), (0,), 0),
        ((3, 3), (0, 1), 0),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(shape, strides, offset):
    content = _zipped(_program(shape, strides, offset), data__0=SIX)
    with pytest.raises(ValueError, match=r"a (lies outside|is larger than) its storage"):
        torch_weights.read(content)


def test_other_byte_orders_and_missing_storages_are_refused():
    program = _program((2, 3), (3, 1))
    with pytest.raises(ValueError, match="big-endian"):
        torch_weights.read(_zipped(program, data__0=SIX, byteorder=b"big"))
    with pytest.raises(ValueError, match="damaged"):
        torch_weights.read(_zipped(program))
    with pytest.raises(ValueError, match="none of PyTorch's"):
        torch_weights.read(b"\x89PNG not a checkpoint")
