"""Batches of examples read as needed equal those of examples on the devices."""

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

from gaxn import data, keys
from gaxn.data import folder, idx, pipeline, shapes
from gaxn.distributed import sharding
from gaxn.types import Batch, InputError

UPDATES, BATCH, SIZE = 2, 8, 8
PARALLELISMS = {"jitted": sharding.jit_parallelism, "pmapped": sharding.pmap_parallelism}


def _pixels(label: int, index: int) -> np.ndarray:
    return np.random.default_rng([label, index]).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder_path(tmp_path_factory):
    """Writes a folder of two classes, 15 images each."""
    root = tmp_path_factory.mktemp("images")
    for label, name in enumerate("ab"):
        (root / name).mkdir()
        for index in range(15):
            Image.fromarray(_pixels(label, index)).save(root / name / f"{index:02d}.png")
    return root


def _source(root: Path, streamed: bool, **options) -> folder.Source:
    resident_bytes = 0 if streamed else 2**20
    return folder.Source("train", str(root), SIZE, resident_bytes=resident_bytes, **options)


def _batches(source, parallelism):
    return pipeline.make_batches(source, [jax.random.key(3)], UPDATES, BATCH, parallelism)


def _both(root: Path, parallelism):
    """Returns the batches of a streamed and of a resident source."""
    return [_batches(_source(root, streamed), parallelism) for streamed in (True, False)]


def _assert_same_batches(streamed: Batch, resident: Batch):
    """Asserts that batches are equal bit for bit and on the same devices."""
    for a, b in zip(jax.tree.leaves(streamed), jax.tree.leaves(resident), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        for shard, expected in zip(a.addressable_shards, b.addressable_shards, strict=True):
            assert shard.device == expected.device and shard.index == expected.index
            np.testing.assert_array_equal(shard.data, expected.data)


# Consecutive steps, from the start and from the middle; repeated, skipped and backwards.
STEPS = (0, 1, 2, 3, 7, 8, 3, 4, 4, 6)


@pytest.mark.parametrize("name", PARALLELISMS)
def test_streamed_batches_equal_the_resident_ones(folder_path, name):
    streamed, resident = _both(folder_path, PARALLELISMS[name](jax.devices()))
    for step in STEPS:
        _assert_same_batches(streamed(step), resident(step))


@pytest.mark.parametrize(("workers", "steps"), [(1, (5, 2)), (2, (5, 6, 7, 8, 9))])
def test_worker_processes_do_not_change_the_batches(folder_path, workers, steps):
    parallelism = sharding.jit_parallelism(jax.devices())
    streamed = _batches(_source(folder_path, True, workers=workers), parallelism)
    resident = _batches(_source(folder_path, False), parallelism)
    for step in steps:
        _assert_same_batches(streamed(step), resident(step))


def test_streamed_batches_contain_the_files_in_the_order_of_the_indices(folder_path):
    source = _source(folder_path, True)
    batch = _batches(source, sharding.jit_parallelism(jax.devices()))(4)
    order = pipeline.make_order(keys.stream(jax.random.key(3), "data"), len(source))
    indices = pipeline.indices_of_step(order, len(source), 4, UPDATES, BATCH)
    for update, row in np.ndindex(UPDATES, BATCH):
        name = source.names[indices[update, row]]
        pixels = np.asarray(Image.open(folder_path / name))
        np.testing.assert_array_equal(batch.images[update, row], pixels)
        assert batch.labels[update, row] == "ab".index(name[0])


@pytest.mark.parametrize("name", PARALLELISMS)
def test_flips_of_streamed_images_are_those_of_resident_ones(folder_path, name):
    streamed, resident = (
        _batches(_source(folder_path, each, flip=True), PARALLELISMS[name](jax.devices()))
        for each in (True, False)
    )
    for step in (0, 1, 5):
        _assert_same_batches(streamed(step), resident(step))


def test_images_without_labels_are_streamed(folder_path):
    streamed, resident = _both(folder_path / "a", sharding.pmap_parallelism(jax.devices()))
    assert streamed(0).labels is None
    _assert_same_batches(streamed(0), resident(0))


@dataclasses.dataclass(frozen=True)
class LoggingSource:
    """Forty examples whose pixels are their index; logs what is read, and fails at 9."""

    log: list
    split: str = "train"
    image_shape = (1, 1, 1)
    class_names = ()
    table = None
    flip = False
    workers: int = 0

    def __len__(self):
        return 40

    def read(self, indices):
        self.log.append(tuple(indices))
        if 9 in indices:
            raise InputError("example 9 is broken")
        return Batch(np.asarray(indices, np.uint8).reshape(-1, 1, 1, 1), None)


def test_consecutive_steps_are_read_once_each_and_ahead():
    source = LoggingSource([])
    one_device = sharding.jit_parallelism(jax.devices()[:1])
    batches = pipeline.make_batches(source, [jax.random.key(1)], 1, 1, one_device)
    order = pipeline.make_order(keys.stream(jax.random.key(1), "data"), 40)(0)
    broken = int(np.flatnonzero(order == 9)[0])
    for step in range(broken):
        assert batches(step).images.item() == order[step]
    ahead = broken + pipeline.THREADS
    deadline = time.monotonic() + 20
    while len(source.log) < ahead and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(source.log) == sorted((index,) for index in order[:ahead])
    with pytest.raises(InputError, match="example 9 is broken"):
        batches(broken)
    assert batches(broken + 1).images.item() == order[broken + 1]


def test_damaged_files_are_lines_from_a_worker_process(tmp_path, capfd):
    for index in range(30):
        Image.fromarray(_pixels(0, index)).save(tmp_path / f"{index}.png")
        content = bytearray((tmp_path / f"{index}.png").read_bytes())
        # Only decoding shows a wrong pixel.
        content[150] ^= 1
        (tmp_path / f"{index}.png").write_bytes(content)
    streamed = _batches(_source(tmp_path, True, workers=1), sharding.jit_parallelism(jax.devices()))
    with pytest.raises(
        InputError, match=r": 16 images cannot be used: \d+\.png \(.* 6 more"
    ) as caught:
        streamed(0)
    assert "\n" not in str(caught.value)
    warnings = [line for line in capfd.readouterr().err.splitlines() if "cannot be used" in line]
    assert len(warnings) == 11
    assert all(line.startswith(f"gaxn: warning: {tmp_path}: ") for line in warnings)


# ---------------------------------------------------------------- rows of each process


@pytest.mark.parametrize(
    ("device_processes", "batch", "rows"),
    [
        ([0], 3, {0: [0, 1, 2]}),
        ([0, 0, 1, 1], 8, {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}),
        ([1, 0, 2], 6, {0: [2, 3], 1: [0, 1], 2: [4, 5]}),
        ([0, 1, 1, 0], 8, {0: [0, 1, 6, 7], 1: [2, 3, 4, 5]}),
    ],
)
def test_each_row_belongs_to_the_process_of_its_device(device_processes, batch, rows):
    for process, expected in rows.items():
        assert sharding.rows_of_process(device_processes, process, batch).tolist() == expected


def test_each_process_reads_only_its_rows(folder_path):
    """Simulates two processes by parallelisms that return the rows of one process unchanged."""
    source = _source(folder_path, True)
    expected = _batches(_source(folder_path, False), sharding.jit_parallelism(jax.devices()))(6)
    for process in (0, 1):
        rows = sharding.rows_of_process([1, 0, 0, 1], process, BATCH)
        parallelism = sharding.jit_parallelism(jax.devices())._replace(
            process_rows=lambda batch, rows=rows: rows, assemble=lambda batch: batch
        )
        batch = _batches(source, parallelism)(6)
        np.testing.assert_array_equal(batch.images, np.asarray(expected.images)[:, rows])
        np.testing.assert_array_equal(batch.labels, np.asarray(expected.labels)[:, rows])


@pytest.mark.parametrize("name", PARALLELISMS)
def test_a_single_process_has_every_row(name):
    assert PARALLELISMS[name](jax.devices()).process_rows(8).tolist() == list(range(8))


PROCESS = """
import json, sys
import jax, numpy as np
port, process, root = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", 2)
address = f"127.0.0.1:{port}"
jax.distributed.initialize(address, 2, int(process), coordinator_bind_address=address)
from gaxn.data import folder, pipeline
from gaxn.distributed import sharding
from gaxn.training import population
root_keys = [jax.random.key(3)]
shards = {}
makers = {"jitted": sharding.jit_parallelism, "pmapped": sharding.pmap_parallelism}
for name, make in makers.items():
    parallelism = make(jax.devices())
    def shards_of_batch(resident_bytes):
        source = folder.Source("train", root, 8, resident_bytes=resident_bytes)
        batch = pipeline.make_batches(source, root_keys, 2, 8, parallelism)(4)
        return [np.asarray(shard.data).tolist() for shard in batch.images.addressable_shards]
    shards[name] = shards_of_batch(0)
    assert shards[name] == shards_of_batch(2**20), name
print(json.dumps({"rows": parallelism.process_rows(8).tolist(), **shards}))
"""


@pytest.mark.slow
def test_two_processes_have_the_batch_of_one(folder_path):
    (port,) = free_ports()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(process), str(folder_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for process in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    batches = _batches(_source(folder_path, False), sharding.jit_parallelism(jax.devices()))
    images = np.asarray(batches(4).images)
    for process, (out, _) in enumerate(outputs):
        printed = json.loads(out.splitlines()[-1])
        rows = printed["rows"]
        assert rows == list(range(4 * process, 4 * process + 4))
        for name in PARALLELISMS:
            shards = [np.reshape(shard, (UPDATES, 2, SIZE, SIZE, 3)) for shard in printed[name]]
            np.testing.assert_array_equal(np.concatenate(shards, axis=1), images[:, rows])


READING = """
import sys, time
import jax
from gaxn.data import folder, pipeline
from gaxn.distributed import sharding
from gaxn.training import population
if __name__ == "__main__":
    source = folder.Source("train", sys.argv[1], 8, resident_bytes=0, workers=1)
    parallelism = sharding.jit_parallelism(jax.devices())
    batches = pipeline.make_batches(source, [jax.random.key(3)], 2, 8, parallelism)
    for step in range(10_000):
        batches(step)
        print(step, flush=True)
        time.sleep(0.01)
"""


def _workers(parent: int) -> list[int]:
    """Returns the child processes of Grain; Linux lists each with the thread that started it."""
    threads = Path(f"/proc/{parent}/task").iterdir()
    children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_outlive_signals_but_not_their_parent(folder_path, tmp_path):
    script = tmp_path / "reading.py"
    script.write_text(READING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder_path)],
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
    deadline = time.monotonic() + 20
    while _is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(worker)


# ---------------------------------------------------------------- sources


def test_every_data_set_has_the_attributes_of_a_source():
    names = {module.name for module in pkgutil.iter_modules(data.__path__)}
    parts = {"classes", "decoding", "emoji_pictures", "file_tree", "image_preparation", "layouts"}
    for name in names - parts - {"pipeline", "pixels", "sentences"}:
        source = importlib.import_module(f"gaxn.data.{name}").Source
        assert issubclass(source, data.Source) and not source.__abstractmethods__, name
        assert source.__dataclass_params__.frozen
        fields = {field.name: field.default for field in dataclasses.fields(source)}
        assert fields["split"] == "train"
        # Sources that read their examples, and no others, have workers.
        bases = source.__mro__[: source.__mro__.index(data.Source)]
        reads, has_workers = (
            any(attribute in vars(base) for base in bases) for attribute in ("read", "workers")
        )
        assert reads == has_workers, name


def test_the_reader_of_a_stream_returns_the_examples_of_the_table(folder_path):
    indices = np.array([3, 0, 3, 11])
    streamed, resident = (
        data.make_reader(_source(folder_path, streamed))(indices) for streamed in (True, False)
    )
    np.testing.assert_array_equal(streamed.images, resident.images)
    np.testing.assert_array_equal(streamed.labels, resident.labels)


def test_a_source_has_a_table_up_to_its_resident_bytes(folder_path):
    source = _source(folder_path, True)
    size = len(source) * SIZE * SIZE * 3
    assert dataclasses.replace(source, resident_bytes=size).table is not None
    assert dataclasses.replace(source, resident_bytes=size - 1).table is None


def test_chunks_of_the_table_are_in_order(monkeypatch, folder_path):
    expected = _source(folder_path, False).table
    monkeypatch.setattr(data, "CHUNK", 7)
    np.testing.assert_array_equal(_source(folder_path, False).table.images, expected.images)
    batch = _source(folder_path, True).read(np.arange(len(expected.images)))
    np.testing.assert_array_equal(batch.images, expected.images)


@pytest.mark.parametrize("source", [shapes.Source(size=16), idx.Source("test")])
def test_the_batch_spec_equals_that_of_real_examples(source):
    if (
        isinstance(source, idx.Source)
        and not (Path(os.environ.get("GAXN_DATA", "")) / "mnist").exists()
    ):
        pytest.skip("no MNIST at GAXN_DATA")
    indices = jax.ShapeDtypeStruct((2, 5), np.int32)
    real = jax.eval_shape(source.look_up, source.table, indices)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), real) == jax.tree.map(
        lambda x: (x.shape, x.dtype), data.batch_spec(source, (2, 5))
    )
