"""`python -m gaxn.evaluation A B`: figures of a set of images, compared with a reference set.

    python -m gaxn.evaluation A B [--real C] [--features NAME] [--metrics NAME ...] [--json FILE]
    python -m gaxn.evaluation B --write STATISTICS.npz
    python -m gaxn.evaluation A STATISTICS.npz

A is the set that is scored and B the reference: a folder of pictures (one folder per class, or
flat), a .zip of one, or a .npz with `images` (or `arr_0`), uint8 [n, height, width, 1 or 3].
Instead of B, a file of its statistics can be given, written by this program or, for the Frechet
distance alone, by pytorch-fid. C is a second set of real images, disjoint from B: the figures of
as many images as A has are what the best generator could reach. The pictures of a set have one
size, and stay as they are without --size.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from gaxn.data import find_path
from gaxn.distributed import sharding
from gaxn.evaluation import figures, image_sets, scoring
from gaxn.io import compilation_cache, errors, files
from gaxn.types import InputError, check


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; usage: python -m gaxn.evaluation A B; --help says more")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = _Parser("python -m gaxn.evaluation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("sets", nargs="+", metavar="SET", help="A and B; or B alone, with --write")
    parser.add_argument(
        "--features", default="inception", help="a module of gaxn/features; default: inception"
    )
    parser.add_argument(
        "--weights",
        default="",
        help='of the features: a path; for inception also "download"; for classifier also '
        "mnist, fashion-mnist or shapes",
    )
    parser.add_argument(
        "--preprocessing",
        default="",
        help="of inception: tf (as torch-fidelity; the default), torch (as pytorch-fid) or clean "
        "(as clean-fid)",
    )
    parser.add_argument("--metrics", nargs="+", default=(), help="default: all that apply")
    parser.add_argument("--samples", type=int, default=0, help="images of each set; default: all")
    parser.add_argument("--size", type=int, default=0, help="crop to squares and resize to this")
    parser.add_argument(
        "--real",
        default="",
        metavar="SET",
        help="a second set of real images: its figures beside those of A",
    )
    parser.add_argument(
        "--split_by",
        default="auto",
        help="what folders such as train and test are: folders (the splits; both are read), share "
        "(classes), or auto to find out",
    )
    parser.add_argument(
        "--json", type=files.expand, help="also write figures and protocol to this file"
    )
    parser.add_argument(
        "--write", type=files.expand, help="write the statistics of SET to this .npz"
    )
    parser.add_argument(
        "--nocompilation_cache",
        dest="compilation_cache",
        action="store_false",
        help="compile every program again; by default they are stored in GAXN_CACHE/xla",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Runs one command line and prints its result.

    Raises:
        InputError: an argument is wrong.
    """
    options = make_parser().parse_args(argv)
    count = len(options.sets)
    if options.write is None:
        check("the number of sets", count, count == 2, "2 without --write")
    else:
        check("the number of sets", count, count == 1, "1 with --write")
        check("--json", str(options.json), options.json is None, "left out with --write")
        check("--real", options.real, not options.real, "left out with --write")
        is_npz = options.write.suffix == ".npz"
        check("--write", str(options.write), is_npz, "a path that ends in .npz")
    check("--samples", options.samples, options.samples >= 0, "1 or more, or 0 for all")
    check("--size", options.size, options.size >= 0, "1 or more, or 0 for no resizing")
    if options.compilation_cache:
        compilation_cache.enable()
    sets = [find_path(path) for path in (*options.sets, options.real) if path]
    for name in ("write", "json"):
        if getattr(options, name) is not None:
            files.check_writable(getattr(options, name), f"--{name}", sets)
    extractor = image_sets.load_extractor(options.features, options.weights, options.preprocessing)
    names = ("metrics", "samples", "size", "split_by")
    choices = {name: getattr(options, name) for name in names}
    if options.write is not None:
        facts = image_sets.write_statistics(*options.sets, options.write, extractor, **choices)
        print(f"{options.write}: {facts['count']:,} images, {', '.join(facts['metrics'])}")
        for note in facts["notes"]:
            print(f"  {note}")
        return
    document = image_sets.evaluate_sets(*options.sets, extractor, real=options.real, **choices)
    if options.json is not None:
        files.write_json(options.json, document)
    print(figures.format_all(document["figures"]))
    if few := figures.describe_few({"": document}):
        print(f"  {few}")
    for name, value in document["protocol"].items():
        print(f"  {name}: {json.dumps(value)}")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a user's mistake."""
    errors.show_warnings()
    sharding.use_cores(scoring.BATCH)
    try:
        run(argv[1:])
        return 0
    except InputError as error:
        print(f"gaxn: {error}", file=sys.stderr)
    except MemoryError as error:
        print(f"gaxn: not enough memory: {error}; fewer features need less", file=sys.stderr)
    except KeyboardInterrupt:
        print("gaxn: interrupted; nothing was written", file=sys.stderr)
        return 130
    except OSError as error:
        message = errors.describe_user_error(error, argv[1:])
        if not message:
            raise
        print(f"gaxn: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
