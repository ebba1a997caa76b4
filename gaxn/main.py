"""`python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE]`.

And `python -m gaxn.main --mode compare RUN RUN [RUN ...] [--workdir DIR]`.
"""

import logging
import sys
from collections.abc import Sequence

from gaxn import arguments, mesh, modes
from gaxn.build import build
from gaxn.comparison import compare
from gaxn.types import InputError


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.basicConfig(format="gaxn: %(message)s", level=logging.WARNING)
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(__doc__.strip(), arguments.HELP, sep="\n\n")
        return 0
    try:
        given = arguments.parse(argv, modes.MODES)
        if given.config is None:
            return compare(given.runs, given.workdir)
        sizes = ("batch", 1), ("accumulate", 1), ("population", 1)
        batch, parts, members = (given.config.get(*size) for size in sizes)
        if all(isinstance(size, int) and size > 0 for size in (batch, parts, members)):
            # A member is worth a core whatever its batch.
            mesh.use_cores(batch // parts if members == 1 else members * mesh.ROWS_A_CORE)
        run = build(given.config, given.name)
        return modes.start(given.mode, run, given.workdir, given.options)
    except InputError as error:
        print(f"gaxn: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("gaxn: interrupted; the same command goes on, or does it anew", file=sys.stderr)
        return 130
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(f"gaxn: {error.strerror or error}{place}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
