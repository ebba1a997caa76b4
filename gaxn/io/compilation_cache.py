"""A cache of compiled programs in `GAXN_CACHE/xla`: a second start compiles nothing."""

import contextlib
import hashlib
import logging
import platform
import re
import tempfile
import warnings
from pathlib import Path

import jax

from gaxn.io import downloads
from gaxn.types import InputError

log = logging.getLogger(__name__)

MAX_BYTES = 2 << 30
"""Size of all programs for one kind of processor; beyond it the oldest are removed."""


def enable() -> None:
    """Makes JAX store and find compiled programs in a directory of `GAXN_CACHE/xla`.

    Nothing changes if the user gave JAX a directory (`JAX_COMPILATION_CACHE_DIR`) or disabled its
    cache. A directory that cannot be written is only read, and one that cannot be created is not
    used; both with a warning.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    # XLA optimizes for the processor, and a home directory may be shared by several kinds.
    try:
        folder = downloads.directory("xla") / _processor()
    except InputError as error:
        log.warning("warning: compiled programs cannot be kept (%s)", error)
        return
    # Even programs that compile in an instant: there are hundreds of them.
    min_seconds = 0.0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        remove_oldest(folder, MAX_BYTES)
    except OSError as error:
        log.warning("warning: compiled programs cannot be kept in %s (%s)", folder, error.strerror)
        if not folder.is_dir():
            return
        min_seconds = float("inf")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_seconds)
    # XLA's caches for GPUs would make a program's key depend on the path of the directory.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    _replace_damaged_programs(folder)


def _processor() -> str:
    """Returns a name for this kind of processor: its architecture and a hash of its features."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = f"model name: {platform.processor()}"
    features = sorted(set(re.findall(r"^(?:model name|flags|Features)\s*:.*", text, re.MULTILINE)))
    digest = hashlib.sha256("\n".join(features).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


def remove_oldest(folder: Path, limit: int) -> None:
    """Removes the oldest files of a folder until the rest has at most `limit` bytes."""
    files = []
    for path in folder.iterdir():
        # Another process may have removed it.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    size = 0
    for _, file_size, path in sorted(files, reverse=True):
        size += file_size
        if size > limit:
            path.unlink(missing_ok=True)


def _replace_damaged_programs(folder: Path) -> None:
    """Replaces JAX's warning about a program that it cannot read: the file is removed.

    JAX compiles the program again, but never overwrites the damaged file, so that without this it
    would compile it at every start.
    """
    show = warnings.showwarning

    def show_or_replace(message, category, filename, lineno, file=None, line=None):
        pattern = r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)"
        match = re.match(pattern, str(message))
        if match is None:
            show(message, category, filename, lineno, file, line)
        elif match[1] == "writing":
            log.warning("warning: the compiled program %s cannot be kept (%s)", match[2], match[3])
        else:
            for path in folder.glob(f"{match[2]}-*"):
                path.unlink(missing_ok=True)
            log.warning("warning: the kept program %s is damaged; it is compiled again", match[2])

    warnings.showwarning = show_or_replace
