"""Examples that are read as they are needed make the same batches as those that stay."""

import dataclasses
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from ports import free_ports

from gaxn import data, feed, keys, mesh, population
from gaxn.data import folder, idx, shapes
from gaxn.types import Batch, InputError

TURNS, BATCH, SIZE = 2, 8, 8
PLACEMENTS = {"jitted": mesh.jitted, "pmapped": mesh.pmapped}


def _pixels(of_class: int, index: int) -> np.ndarray:
    return np.random.default_rng([of_class, index]).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of two classes, 15 pictures each."""
    root = tmp_path_factory.mktemp("pictures")
    for of_class, name in enumerate("ab"):
        (root / name).mkdir()
        for index in range(15):
            Image.fromarray(_pixels(of_class, index)).save(root / name / f"{index:02d}.png")
    return root


def _source(root: Path, streamed: bool, **options) -> folder.Source:
    resident_bytes = 0 if streamed else 2**20
    return folder.Source("train", str(root), SIZE, resident_bytes=resident_bytes, **options)


def _feed(source, placement):
    return feed.make_feed(source, population.members(3, 1), TURNS, BATCH, placement)


def _assert_same_batches(streamed: Batch, resident: Batch):
    """Equal bit for bit, and laid on the same devices."""
    for a, b in zip(jax.tree.leaves(streamed), jax.tree.leaves(resident), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        for own, other in zip(a.addressable_shards, b.addressable_shards, strict=True):
            assert own.device == other.device and own.index == other.index
            np.testing.assert_array_equal(own.data, other.data)


# Steps in order, from the start and from anywhere; back, repeated and skipped.
STEPS = (0, 1, 2, 3, 7, 8, 3, 4, 4, 6)


@pytest.mark.parametrize("place", PLACEMENTS)
def test_streamed_batches_are_the_resident_ones(pictures, place):
    placement = PLACEMENTS[place](jax.devices())
    streamed, resident = (_feed(_source(pictures, way), placement) for way in (True, False))
    for step in STEPS:
        _assert_same_batches(streamed(step), resident(step))


@pytest.mark.parametrize(("workers", "steps"), [(1, (5, 2)), (2, (5, 6, 7, 8, 9))])
def test_worker_processes_do_not_change_the_batches(pictures, workers, steps):
    placement = mesh.jitted(jax.devices())
    streamed = _feed(_source(pictures, True, workers=workers), placement)
    resident = _feed(_source(pictures, False), placement)
    for step in steps:
        _assert_same_batches(streamed(step), resident(step))


def test_streamed_batches_hold_the_files_of_the_order(pictures):
    source = _source(pictures, True)
    batch = _feed(source, mesh.jitted(jax.devices()))(4)
    order = feed.make_order(keys.stream(jax.random.key(3), "data"), len(source))
    indices = feed.indices_of_step(order, len(source), 4, TURNS, BATCH)
    files = [(file.name, file.label) for file in source._files]
    for turn, row in np.ndindex(TURNS, BATCH):
        name, label = files[indices[turn, row]]
        pixels = np.asarray(Image.open(pictures / name))
        np.testing.assert_array_equal(batch.images[turn, row], pixels)
        assert batch.labels[turn, row] == label == "ab".index(name[0])


def test_pictures_without_labels_are_streamed(pictures):
    placement = mesh.pmapped(jax.devices())
    streamed, resident = (_feed(_source(pictures / "a", way), placement) for way in (True, False))
    assert streamed(0).labels is None
    _assert_same_batches(streamed(0), resident(0))


@dataclasses.dataclass(frozen=True)
class Noted:
    """Forty examples whose pixels are their index; notes what is read, and fails at 9."""

    log: list
    split: str = "train"
    image_shape = (1, 1, 1)
    class_names = ()
    table = None
    workers: int = 0

    def __len__(self):
        return 40

    def read(self, indices):
        self.log.append(tuple(indices))
        if 9 in indices:
            raise InputError("example 9 is broken")
        return Batch(np.asarray(indices, np.uint8).reshape(-1, 1, 1, 1), None)


def test_steps_in_a_row_are_read_once_each_and_ahead():
    source = Noted([])
    one = mesh.jitted(jax.devices()[:1])
    fed = feed.make_feed(source, population.members(1, 1), 1, 1, one)
    order = feed.make_order(keys.stream(jax.random.key(1), "data"), 40)(0)
    broken = int(np.flatnonzero(order == 9)[0])
    for step in range(broken):
        assert fed(step).images.item() == order[step]
    ahead = broken + feed.THREADS
    until = time.monotonic() + 20
    while len(source.log) < ahead and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(source.log) == sorted((index,) for index in order[:ahead])
    with pytest.raises(InputError, match="example 9 is broken"):
        fed(broken)
    assert fed(broken + 1).images.item() == order[broken + 1]


def test_a_damaged_file_is_one_line_from_a_worker_process(tmp_path):
    for index in range(30):
        (tmp_path / f"{index}.png").write_bytes(b"")
    streamed = _feed(_source(tmp_path, True, workers=1), mesh.jitted(jax.devices()))
    with pytest.raises(InputError, match=r"image \d+ of the train split, cannot be used") as caught:
        streamed(0)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- which rows are whose


@pytest.mark.parametrize(
    ("owners", "batch", "rows"),
    [
        ([0], 3, {0: [0, 1, 2]}),
        ([0, 0, 1, 1], 8, {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}),
        ([1, 0, 2], 6, {0: [2, 3], 1: [0, 1], 2: [4, 5]}),
        ([0, 1, 1, 0], 8, {0: [0, 1, 6, 7], 1: [2, 3, 4, 5]}),
    ],
)
def test_each_row_is_of_the_process_whose_device_holds_it(owners, batch, rows):
    for process, expected in rows.items():
        assert mesh.rows_of(owners, process, batch).tolist() == expected


def test_processes_read_their_rows_alone(pictures):
    """Two processes, played by two placements that keep what they are given."""
    source = _source(pictures, True)
    whole = _feed(_source(pictures, False), mesh.jitted(jax.devices()))(6)
    owners = [1, 0, 0, 1]
    for process in (0, 1):
        rows = mesh.rows_of(owners, process, BATCH)
        placement = mesh.jitted(jax.devices())._replace(
            rows=lambda batch, rows=rows: rows, assemble=lambda batch: batch
        )
        own = _feed(source, placement)(6)
        np.testing.assert_array_equal(own.images, np.asarray(whole.images)[:, rows])
        np.testing.assert_array_equal(own.labels, np.asarray(whole.labels)[:, rows])


@pytest.mark.parametrize("place", PLACEMENTS)
def test_one_process_has_every_row(place):
    assert PLACEMENTS[place](jax.devices()).rows(8).tolist() == list(range(8))


PROCESS = """
import json, sys
import jax, numpy as np
port, process, root = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", 2)
address = f"127.0.0.1:{port}"
jax.distributed.initialize(address, 2, int(process), coordinator_bind_address=address)
from gaxn import feed, mesh, population
from gaxn.data import folder
found = {}
for name, place in {"jitted": mesh.jitted, "pmapped": mesh.pmapped}.items():
    placement = place(jax.devices())
    def batch_of(resident_bytes):
        source = folder.Source("train", root, 8, resident_bytes=resident_bytes)
        batch = feed.make_feed(source, population.members(3, 1), 2, 8, placement)(4)
        return [np.asarray(shard.data).tolist() for shard in batch.images.addressable_shards]
    streamed = batch_of(0)
    assert streamed == batch_of(2**20), name
    found[name] = streamed
print(json.dumps({"rows": placement.rows(8).tolist(), **found}))
"""


@pytest.mark.slow
def test_two_processes_place_the_batch_of_one(pictures):
    (port,) = free_ports()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(process), str(pictures)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        for process in range(2)
    ]
    try:
        ended = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], ended
    whole = np.asarray(_feed(_source(pictures, False), mesh.jitted(jax.devices()))(4).images)
    for process, (out, _) in enumerate(ended):
        found = json.loads(out.splitlines()[-1])
        rows = found["rows"]
        assert rows == list(range(4 * process, 4 * process + 4))
        for place in PLACEMENTS:
            shards = [np.asarray(shard).reshape(TURNS, 2, SIZE, SIZE, 3) for shard in found[place]]
            np.testing.assert_array_equal(np.concatenate(shards, axis=1), whole[:, rows])


FEEDING = """
import sys, time
import jax
from gaxn import feed, mesh, population
from gaxn.data import folder
if __name__ == "__main__":
    source = folder.Source("train", sys.argv[1], 8, resident_bytes=0, workers=1)
    fed = feed.make_feed(source, population.members(3, 1), 2, 8, mesh.jitted(jax.devices()))
    for step in range(10_000):
        fed(step)
        print(step, flush=True)
        time.sleep(0.01)
"""


def _workers(parent: int) -> list[int]:
    """Its child processes that are Grain's; each belongs to the thread that started it."""
    threads = Path(f"/proc/{parent}/task").iterdir()
    children = [int(pid) for thread in threads for pid in _words(thread / "children")]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_outlive_signals_but_not_their_parent(pictures, tmp_path):
    script = tmp_path / "feeding.py"
    script.write_text(FEEDING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(pictures)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        assert parent.stdout.readline() == "0\n"
        (worker,) = _workers(parent.pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, number)
        for step in range(1, 20):
            assert parent.stdout.readline() == f"{step}\n"
        assert _is_running(worker)
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 20
    while _is_running(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _is_running(worker)


# ---------------------------------------------------------------- what sources offer


def test_every_data_set_offers_a_source():
    names = [module.name for module in pkgutil.iter_modules(data.__path__)]
    assert {"folder", "idx", "shapes", "tfds"} <= set(names)
    for name in names:
        source = importlib.import_module(f"gaxn.data.{name}").Source
        assert dataclasses.is_dataclass(source) and source.__dataclass_params__.frozen
        fields = {field.name: field.default for field in dataclasses.fields(source)}
        assert fields["split"] == "train"
        for offered in ("image_shape", "class_names", "identity", "table", "look_up", "__len__"):
            assert hasattr(source, offered), f"{name} offers no {offered}"
        streams = hasattr(source, "read")
        assert streams == hasattr(source, "resident_bytes") == hasattr(source, "workers")


def test_the_reader_of_a_stream_gives_what_the_table_holds(pictures):
    indices = np.array([3, 0, 3, 11])
    streamed, resident = (data.reader(_source(pictures, way))(indices) for way in (True, False))
    np.testing.assert_array_equal(streamed.images, resident.images)
    np.testing.assert_array_equal(streamed.labels, resident.labels)


def test_a_source_stays_up_to_its_resident_bytes(pictures):
    source = _source(pictures, True)
    size = len(source) * SIZE * SIZE * 3
    assert dataclasses.replace(source, resident_bytes=size).table is not None
    assert dataclasses.replace(source, resident_bytes=size - 1).table is None


def test_many_examples_are_gathered_in_order(monkeypatch, pictures):
    expected = _source(pictures, False).table
    monkeypatch.setattr(data, "CHUNK", 7)
    np.testing.assert_array_equal(_source(pictures, False).table.images, expected.images)
    everything = _source(pictures, True).read(np.arange(len(expected.images)))
    np.testing.assert_array_equal(everything.images, expected.images)


@pytest.mark.parametrize("source", [shapes.Source(size=16), idx.Source("test")])
def test_the_outline_is_that_of_real_examples(source):
    if (
        isinstance(source, idx.Source)
        and not (Path(os.environ.get("GAXN_DATA", "")) / "mnist").exists()
    ):
        pytest.skip("no MNIST at GAXN_DATA")
    indices = jax.ShapeDtypeStruct((2, 5), np.int32)
    real = jax.eval_shape(source.look_up, source.table, indices)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), real) == jax.tree.map(
        lambda x: (x.shape, x.dtype), data.outline(source, (2, 5))
    )
