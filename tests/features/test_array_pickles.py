"""Reading of pickled arrays: equal to `pickle.load`, and other content is never run."""

import os
import pickle

import numpy as np
import pytest
from damaged_files import damage

from gaxn.features import array_pickles

RANDOM = np.random.default_rng(0)
TREE = {
    "network": {
        "kernel": RANDOM.normal(size=(2, 3, 4)).astype(np.float32),
        "fortran": np.asfortranarray(RANDOM.normal(size=(3, 5))),
        "half": np.arange(4, dtype=np.float16),
    },
    "counts": np.arange(6).reshape(2, 3),
    "small": np.arange(3, dtype=np.int32),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "nothing": {},
}


def _flat(tree, place=""):
    if not isinstance(tree, dict):
        return {place: tree}
    return {k: v for name, item in tree.items() for k, v in _flat(item, f"{place}/{name}").items()}


@pytest.mark.parametrize(
    ("protocol", "module"), [(3, b"numpy._core"), (3, b"numpy.core"), (4, b"numpy._core")]
)
def test_arrays_are_those_that_were_pickled(protocol, module):
    content = pickle.dumps(TREE, protocol)
    assert content.count(b"numpy._core.multiarray") == 1
    # NumPy 1 has it without the underscore.
    content = content.replace(b"numpy._core", module)
    arrays, expected = _flat(array_pickles.read(content)), _flat(TREE)
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)
        assert array.size == 0 or not arrays[name].flags.writeable


class _Program:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, array_pickles.read])
def test_a_program_in_a_file_does_not_run(tmp_path, function):
    target = tmp_path / "ran"
    program = _Program(function, f"touch {target}")
    for value in (program, {"a": program}, {"a": np.zeros(2), "b": {"c": program}}):
        with pytest.raises(ValueError, match=r"^it asks for \S+, which no array needs$"):
            array_pickles.read(pickle.dumps(value))
    assert not target.exists()


def test_the_same_program_runs_in_the_unpickler_of_python(tmp_path):
    """Checks that the test above could fail."""
    target = tmp_path / "ran"
    pickle.loads(pickle.dumps(_Program(os.system, f"touch {target}")))
    assert target.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([np.zeros(2)], "it must hold a dict of arrays, got a list"),
        (np.zeros(2), "it must hold a dict of arrays, got a _Record"),
        ({"a": 1}, "it holds 'a', which is neither a dict nor an array"),
        ({"a": {"b": "text"}}, "it holds 'a/b', which is neither"),
        ({"a": np.dtype("f4")}, "it holds 'a', which is neither"),
        ({"a": np.zeros(2, ">f4")}, "'a' must have little-endian numbers of f2, f4, f8, i4, i8"),
        ({"a": np.zeros(2, complex)}, "'a' must have little-endian numbers"),
        ({"a": np.array(["x", None], object)}, "'a' must have little-endian numbers"),
        ({"a": np.zeros(2, [("x", "f4")])}, "'a' must have little-endian numbers"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_another_object_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        array_pickles.read(pickle.dumps(value, 3))


SMALL = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.ones(2)}}


def test_numbers_that_do_not_fill_the_shape_are_refused():
    content = pickle.dumps(SMALL, 3)
    assert content.count(b"K\x02K\x03") == 1
    for sides in (b"K\x02K\x04", b"K\x02K\x02"):
        with pytest.raises(ValueError, match=r"cut off: 'a' must have \d+ bytes, got 24"):
            array_pickles.read(content.replace(b"K\x02K\x03", sides))


def test_a_file_that_is_cut_off_anywhere_is_refused():
    content = pickle.dumps(SMALL, 3)
    assert array_pickles.read(content)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"^(damaged|cut off)[^\n]*$"):
            array_pickles.read(content[:end])


@pytest.mark.filterwarnings("ignore:invalid escape")
def test_a_damaged_file_raises_only_one_line_value_errors():
    for damaged in damage(pickle.dumps(SMALL, 3)):
        try:
            array_pickles.read(damaged)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)


def test_a_dict_within_itself_is_refused():
    loop = {}
    loop["a"] = loop
    with pytest.raises(ValueError, match="damaged or cut off"):
        array_pickles.read(pickle.dumps(loop))


def test_records_have_no_attributes_that_a_pickle_could_set():
    for record in (*array_pickles.KNOWN.values(), array_pickles.KNOWN["numpy.dtype"]("f4")):
        assert not hasattr(record, "__dict__")
