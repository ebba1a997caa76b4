"""Where processes of a test can meet."""

import socket


def free_ports(count: int = 1) -> list[int]:
    """As many ports of this machine as are asked for, each another, free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
