"""Checkpoints by orbax: asynchronous, atomic, the last few kept, every leaf with a checksum.

Orbax restores a flipped bit without a word, so each checkpoint carries a CRC-32 a leaf,
and one that does not match is set aside for the one before.
"""

import errno
import logging
import os
import shutil
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from gaxn import processes
from gaxn.types import PyTree

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Use as a context: leaving it waits for the last save, and raises its error if it failed.
    """

    def __init__(self, directory: Path, keep: int):
        self._corrupt = directory.with_name(f"corrupt_{directory.name}")
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.wait()
        self._manager.close()

    def steps(self) -> list[int]:
        """Those that are there, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree) -> None:
        """Starts to save a state of NumPy arrays; a step that is already there stays.

        Raises:
            ValueError: there is a later one.
            OSError: there is no room for it, or the last one could not be written.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        self._refuse_without_room(step, state)
        begun = self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                checksums=ocp.args.JsonSave(checksums(state)),
            ),
        )
        if not begun:
            raise ValueError(f"{self._directory} has later steps than {step}: {self.steps()}")

    def wait(self) -> None:
        """Until all that was saved is there, whatever happens to this process.

        Raises:
            OSError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            # TensorStore's own word for a full disk, quotas included.
            if not isinstance(error, OSError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).partition("\n")[0][:120]
            raise OSError(f"the last checkpoint could not be written ({reason})") from error

    def _refuse_without_room(self, step: int, state: PyTree) -> None:
        # Before it is begun: orbax would leave half of it, and TensorStore many tracebacks.
        leaves = jax.tree.leaves(state)
        needed = int(1.1 * sum(leaf.nbytes for leaf in leaves)) + 2**10 * len(leaves) + 2**16
        if shutil.disk_usage(self._directory).free < needed:
            what = f"for the checkpoint of step {step}, which takes up to {needed / 1e6:.1f} MB"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} {what}", str(self._directory))

    def rewind(self, step: int) -> None:
        """Drops the checkpoints after `step`, which a resumed run may save again."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def restore(self, like: PyTree, only: int | None = None) -> PyTree | None:
        """The newest checkpoint whose every leaf matches its checksum, or None.

        Args:
            like: arrays (or their shapes and dtypes) in the structure to restore.
            only: the one step that will do; None for any.

        Each one that does not match is named in the log and moved to
        `corrupt_checkpoints/` (or `corrupt_best/`), so that training can save its step again.
        """
        for step in reversed([step for step in self.steps() if only in (None, step)]):
            problem, state = self._read(step, like)
            if problem is None:
                return state
            self._set_aside(step, problem)
        return None

    def _read(self, step: int, like: PyTree) -> tuple[str | None, PyTree]:
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(template), checksums=ocp.args.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:  # noqa: BLE001
            return f"cannot be read ({str(error).splitlines()[0][:120]})", None
        expected, actual = found.checksums, checksums(found.state)
        damaged = [leaf for leaf in actual if expected.get(leaf) != actual[leaf]]
        if damaged:
            return f"does not match its checksum in {damaged[0]}", None
        return None, found.state

    def _set_aside(self, step: int, problem: str) -> None:
        log.warning(
            "checkpoint %d %s; moved to %s, trying the one before", step, problem, self._corrupt
        )
        target = self._corrupt / str(step)
        # All have read it before the first moves it, and look again after that.
        processes.meet(f"read checkpoint {step}")
        if processes.is_first():
            shutil.rmtree(target, ignore_errors=True)
            self._corrupt.mkdir(parents=True, exist_ok=True)
            shutil.move(self._directory / str(step), target)
        processes.meet(f"moved checkpoint {step}")
        self._manager.reload()


def checksums(state: PyTree) -> dict[str, str]:
    """A CRC-32 of the bytes, shape and dtype of each leaf, by its path."""
    return {
        jax.tree_util.keystr(path): _checksum(np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _checksum(leaf: np.ndarray) -> str:
    header = f"{leaf.dtype.str}{leaf.shape}".encode()
    return f"{zlib.crc32(np.ascontiguousarray(leaf).tobytes(), zlib.crc32(header)):08x}"
