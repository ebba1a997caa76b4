"""Peak memory of a process."""

import re
import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Returns the most memory that this program has had resident at once.

    Where Linux tells the peak of the program, not `getrusage`: that includes the program which
    started this process, so that a small one after a large one would count as large.
    """
    if STATUS.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
