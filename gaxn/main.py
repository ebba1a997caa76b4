"""`python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE]`.

And `python -m gaxn.main --mode compare RUN RUN [RUN ...] [--workdir DIR]`.
"""

import gc
import logging
import sys
import traceback
from collections.abc import Sequence

import jax

from gaxn import arguments, compilation_cache, liveness, mesh, modes, processes
from gaxn.build import build
from gaxn.comparison import compare
from gaxn.types import InputError

OWN_FAULTS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")
"""How JAX's errors begin that no other process is to blame for, such as no memory left."""


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.basicConfig(format="gaxn: %(message)s", level=logging.WARNING)
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(__doc__.strip(), arguments.HELP, sep="\n\n")
        return 0
    try:
        given = arguments.parse(argv, modes.MODES)
        if given.config is None:
            return compare(given.runs, given.workdir)
        if given.compilation_cache:
            compilation_cache.enable()
        sizes = ("batch", 1), ("accumulate", 1), ("population", 1)
        batch, parts, members = (given.config.get(*size) for size in sizes)
        if all(isinstance(size, int) and size > 0 for size in (batch, parts, members)):
            # A member is worth a core whatever its batch.
            rows = batch // parts if members == 1 else members * mesh.ROWS_A_CORE
            # Before anything asks for a device, when a scheduler has not said how many take part.
            expected = processes.expected(given.cluster)
            mesh.use_cores(rows // expected if expected else 0)
        with liveness.over_arrivals():
            processes.join(given.cluster)
        if given.mode != "train":
            processes.end_by_sigterm()
        with liveness.linked(given.cluster.coordinator.rpartition(":")[0]):
            run = build(given.config, given.name)
            return modes.start(given.mode, run, given.workdir, given.options)
    except InputError as error:
        return _failed(2, str(error))
    except KeyboardInterrupt:
        return _failed(130, "interrupted; the same command goes on, or does it anew")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _failed(2, f"{error.strerror or error}{place}")
    except Exception as error:
        if processes.count() == 1:
            raise
        reason = str(error).partition("\n")[0][:120]
        if isinstance(error, jax.errors.JaxRuntimeError) and not reason.startswith(OWN_FAULTS):
            return _failed(liveness.LOST, f"another process is gone ({reason}); {liveness.ONWARD}")
        # The loss of another can look like any error.
        liveness.defer()
        # Among others an end with a traceback alone would first wait for them.
        traceback.print_exc()
        return _failed(1, f"{type(error).__name__}; see above")


def _failed(status: int, message: str) -> int:
    """Says why, and gives the exit status; among other processes it ends here and now."""
    if processes.count() > 1:
        liveness.leave(status, message)
    print(f"gaxn: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # Tracing makes millions of small objects that stay; looking through them again and again for
    # garbage takes a tenth of the time of a start.
    gc.freeze()
    gc.set_threshold(50_000)
    processes.end(main(sys.argv))
