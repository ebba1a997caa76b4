"""Free ports of this machine."""

import socket


def free_ports(count: int = 1) -> list[int]:
    """Returns different TCP ports of this machine that are free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
