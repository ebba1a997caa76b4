"""`python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE]`.

And `python -m gaxn.main --mode compare RUN RUN [RUN ...] [--workdir DIR]`. The console script
`gaxn` does the same, and `gaxn evaluate A B` what `python -m gaxn.evaluation A B` does.
"""

import gc
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence

from flax.traverse_util import flatten_dict

from gaxn import commands, config
from gaxn.distributed import multihost, sharding, watchdog
from gaxn.evaluation import __main__ as evaluation
from gaxn.evaluation.comparison import compare
from gaxn.evaluation.report import report_run
from gaxn.experiment import make_run
from gaxn.experiment.settings import defaults_of
from gaxn.io import compilation_cache, errors
from gaxn.training import restore
from gaxn.types import InputError

LOST_PEER_STATUSES = {
    *("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL"),
    *("UNAVAILABLE", "UNKNOWN"),
}
"""First words of JAX's errors when another process is gone; too little memory has another."""


CLOSED_PIPE = 128 + 13
"""Exit status of a program that SIGPIPE ends."""


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    errors.show_warnings()
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(__doc__.strip(), config.HELP, sep="\n\n")
        return 0
    if argv[1:] == ["--version"]:
        print(f"gaxn {importlib.metadata.version('gaxn')}")
        return 0
    arguments = None
    try:
        arguments = config.parse(argv, defaults_of)
        if arguments.mode == config.REPORT:
            return report_run(arguments.workdir)
        if arguments.config is None:
            return compare(arguments.runs, arguments.workdir)
        if arguments.compilation_cache:
            compilation_cache.enable()
        use_devices(arguments)
        record = commands.data_record(arguments.mode, arguments.workdir, arguments.options)
        needs_text_record = arguments.config.get("text") and arguments.mode != "describe"
        text_record = restore.read_text_record(arguments.workdir) if needs_text_record else None
        run = make_run(arguments.config, arguments.name, record, arguments.origin, text_record)
        return commands.run(arguments.mode, run, arguments.workdir, arguments.options)
    except InputError as error:
        return fail(2, str(error))
    except BrokenPipeError:
        # The reader of the output, such as `head`, has ended; Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except KeyboardInterrupt:
        return fail(130, "interrupted; the same command goes on, or starts anew")
    except Exception as error:
        reason = find_lost_peer(error) if multihost.count() > 1 else ""
        if reason:
            # As if JAX's heartbeat had noticed it first.
            print(f"gaxn: another process is gone ({reason}); {watchdog.RESUME}", file=sys.stderr)
            sys.stderr.flush()
            os.abort()
        if isinstance(error, OSError):
            message = errors.describe_user_error(error, named_paths(arguments))
            if message:
                return fail(2, message)
        if multihost.count() == 1:
            raise
        # Python would wait for the other processes before it prints a traceback.
        traceback.print_exc()
        return fail(1, f"{type(error).__name__}; see above")


def find_lost_peer(error: BaseException | None) -> str:
    """Returns JAX's message about another process that is gone; "" if an error has no such cause.

    A collective that runs at once raises it as a ValueError; Orbax, as the cause of a TimeoutError.
    """
    while error is not None:
        message = str(error).partition("\n")[0]
        if message.partition(":")[0] in LOST_PEER_STATUSES:
            return message[:120]
        error = error.__cause__ or error.__context__
    return ""


def named_paths(arguments: config.Arguments | None) -> list[str]:
    """Returns all that may be a path: of flags, of fields of the config and of the environment."""
    variables = (os.environ.get(name, "") for name in ("GAXN_CACHE", "GAXN_DATA"))
    flags, texts = (), ()
    if arguments is not None:
        fields = flatten_dict(arguments.config.to_dict()) if arguments.config is not None else {}
        flags = (str(arguments.workdir), *map(str, arguments.runs), *arguments.options.values())
        texts = (value for value in fields.values() if isinstance(value, str))
    return [os.path.expanduser(text) for text in (*flags, *texts, *variables) if text]


def use_devices(arguments: config.Arguments) -> None:
    """Connects with other processes, and shows a CPU's cores to JAX as devices."""
    # Must run before JAX makes its devices.
    processes = multihost.expected_count(arguments.cluster)
    sharding.use_cores_for(arguments.config, processes)
    with watchdog.join_watchdog():
        multihost.join(arguments.cluster)
    if arguments.mode != config.TRAIN:
        multihost.end_on_sigterm()


def fail(status: int, message: str) -> int:
    """Prints an error and returns the exit status; one of several processes ends at once."""
    if multihost.count() > 1:
        multihost.exit_alone(status, message)
    print(f"gaxn: {message}", file=sys.stderr)
    return status


def console() -> None:
    """Runs the console script: `gaxn --config ...`, or `gaxn evaluate A B`."""
    # Tracing makes millions of small objects that stay; searching them for garbage again and
    # again takes a tenth of the time of a start.
    gc.freeze()
    gc.set_threshold(50_000)
    if sys.argv[1:2] == ["evaluate"]:
        sys.exit(evaluation.main([sys.argv[0], *sys.argv[2:]]))
    multihost.exit_together(main(sys.argv))


if __name__ == "__main__":
    console()
