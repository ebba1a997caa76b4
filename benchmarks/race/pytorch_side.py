"""The side of PyTorch: the same steps on the same kind of batches."""

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.race import rows
from benchmarks.race.pytorch.make import make_trainer
from benchmarks.race.worker import Side, peak_memory
from gaxn.data import Unpaired
from gaxn.experiment import Experiment, make_experiment

FORMS = {"eager": "eager", "compiled": "compiled", "graphs": "graphs", "bfloat16": "eager"}


def make(row: str, side: str, device: str, folder: Path, tiny: bool) -> Side:
    """Returns a PyTorch side of a row; see `gaxn_side.make`.

    The config comes from gaxn, so that the process has imported JAX; nothing else of it runs.
    """
    name = "cuda" if device == "gpu" else "cpu"
    config = rows.make_config(rows.ROWS[row], device, folder, tiny)
    experiment = make_experiment(config, row)
    trainer = make_trainer(experiment, name, FORMS[side])
    run = make_run(experiment, trainer, name)
    if side == "bfloat16":
        run = torch.autocast(name, torch.bfloat16)(run)
    return Side(run, lambda: _peak_bytes(name), _multiply(name))


def make_run(experiment: Experiment, trainer, device: str):
    """Returns a function that makes a number of steps and waits for the last.

    The images are on the device as a table, and each step looks its rows up, as gaxn does.
    """
    source, members = experiment.train_source, len(experiment.members)
    domains = isinstance(source, Unpaired)
    examples = np.arange(min(rows.IMAGES, *(source.sizes if domains else [len(source)])))
    batch = source.look_up(source.table, np.stack([examples] * 2, axis=-1) if domains else examples)
    tables = [
        None if leaf is None else torch.from_numpy(np.array(leaf)).to(device) for leaf in batch
    ]
    random = np.random.default_rng(0)
    shape = len(experiment.updates), experiment.settings.batch_size
    if members > 1:
        shape = members, *shape

    def run(count: int) -> int:
        for _ in range(count):
            indices = torch.from_numpy(random.integers(0, len(examples), shape)).to(device)
            loss = trainer.step(*(None if table is None else table[indices] for table in tables))
        if device == "cuda":
            torch.cuda.synchronize()
        assert torch.isfinite(loss).all(), loss
        return count

    return run


def _peak_bytes(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()


def _multiply(device: str):
    def seconds_of(size: int) -> float:
        """Returns the least seconds of five products of two square matrices."""
        matrix = torch.ones(size, size, device=device)
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            matrix @ matrix
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds[1:])

    return seconds_of
