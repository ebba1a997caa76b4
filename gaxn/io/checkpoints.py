"""Checkpoints by Orbax: asynchronous, atomic, limited in number, with a checksum of every leaf.

Orbax restores a flipped bit without an error. So each checkpoint has a CRC-32 of every leaf; one
that does not match is moved away, and the checkpoint before it is restored.
"""

import contextlib
import errno
import logging
import os
import shutil
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from gaxn.distributed import multihost
from gaxn.types import InputError, PyTree

log = logging.getLogger(__name__)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run; leaving the context waits for the last save, as `wait` does.

    Args:
        directory: where the checkpoints are stored.
        keep: how many; older ones are deleted. None changes nothing on the disk, since another
            process may be training there.
    """

    def __init__(self, directory: Path, keep: int | None = None):
        self._corrupt = directory.with_name(f"corrupt_{directory.name}")
        self._directory = directory.absolute()
        self._writes = keep is not None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=self._writes, create=self._writes
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "checksums": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            self._directory, item_handlers=handlers, options=options
        )

    def __exit__(self, *_) -> None:
        self.wait()
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree) -> None:
        """Starts to save a state of NumPy arrays; does nothing if the step has a checkpoint.

        Raises:
            ValueError: a later step has a checkpoint.
            OSError: the disk is too full, or the last checkpoint could not be written.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        self._check_disk_space(step, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), checksums=ocp.args.JsonSave(checksums(state))
        )
        if not self._manager.save(step, args=args):
            raise ValueError(f"{self._directory} has later steps than {step}: {self.steps()}")

    def wait(self) -> None:
        """Waits until the last save is complete on disk.

        Raises:
            OSError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            # TensorStore's name for a full disk or quota.
            if not isinstance(error, OSError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).partition("\n")[0][:120]
            message = f"the last checkpoint could not be written ({reason})"
            number = getattr(error, "errno", None) or errno.ENOSPC
            raise OSError(number, message, str(self._directory)) from error

    def _check_disk_space(self, step: int, state: PyTree) -> None:
        # On a full disk Orbax would leave half a checkpoint, and TensorStore print tracebacks.
        leaves = jax.tree.leaves(state)
        needed = int(1.1 * sum(leaf.nbytes for leaf in leaves)) + 2**10 * len(leaves) + 2**16
        if shutil.disk_usage(self._directory).free < needed:
            message = (
                f"{os.strerror(errno.ENOSPC)} for the checkpoint of step {step}, "
                f"which takes up to {needed / 1e6:.1f} MB"
            )
            raise OSError(errno.ENOSPC, message, str(self._directory))

    def rewind(self, step: int) -> None:
        """Deletes the checkpoints after `step`, which a resumed run may save again."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def restore(self, like: PyTree, only: int | None = None) -> PyTree | None:
        """Returns the newest checkpoint in which every leaf matches its checksum, or None.

        A checkpoint that does not match is logged and, if this may write, moved to
        `corrupt_checkpoints/` (or `corrupt_best/`), so that training can save its step again.

        Args:
            like: arrays, or their shapes and dtypes, in the structure to restore.
            only: the step to restore; None for the newest.

        Raises:
            InputError: a checkpoint is of other networks or data: its arrays have other shapes.
        """
        for step in reversed([step for step in self.steps() if only in (None, step)]):
            problem, state = self._read(step, like)
            if problem is None:
                return state
            self._move_away(step, problem)
        return None

    def _read(self, step: int, like: PyTree) -> tuple[str | None, PyTree]:
        self._check_shapes(step, like)
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(template), checksums=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=args)
        except Exception as error:  # noqa: BLE001
            return f"cannot be read ({str(error).splitlines()[0][:120]})", None
        for leaf, checksum in checksums(restored.state).items():
            if restored.checksums.get(leaf) != checksum:
                return f"does not match its checksum in {leaf}", None
        return None, restored.state

    def _check_shapes(self, step: int, like: PyTree) -> None:
        try:
            shapes = _shapes(self._manager.item_metadata(step)["state"].tree)
        except Exception:  # noqa: BLE001
            # A damaged checkpoint, which is not restored either.
            return
        for name, shape in _shapes(like).items():
            if shapes.get(name) != shape:
                raise InputError(
                    f"checkpoint {step} in {self._directory} has {name} of shape "
                    f"{shapes.get(name, 'none')}, but this config and these data need {shape}; "
                    "use those that it was trained with, or another --workdir"
                )

    def _move_away(self, step: int, problem: str) -> None:
        if not self._writes:
            log.warning("checkpoint %d %s; trying the one before", step, problem)
            return
        log.warning(
            "checkpoint %d %s; moved to %s, trying the one before", step, problem, self._corrupt
        )
        target = self._corrupt / str(step)
        # The first process moves it after all have read it; then all list the steps again.
        multihost.barrier(f"read checkpoint {step}")
        if multihost.is_first():
            shutil.rmtree(target, ignore_errors=True)
            self._corrupt.mkdir(parents=True, exist_ok=True)
            shutil.move(self._directory / str(step), target)
        multihost.barrier(f"moved checkpoint {step}")
        self._manager.reload()


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each leaf, by its path "a/b/c", of a state or of Orbax's metadata."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def checksums(state: PyTree) -> dict[str, str]:
    """Returns a CRC-32 of the bytes, shape and dtype of each leaf, by its path."""
    result = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        header = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
        result[jax.tree_util.keystr(path)] = f"{zlib.crc32(array.tobytes(), header):08x}"
    return result
