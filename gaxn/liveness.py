"""How a process ends that waits in vain: for a step that is stuck, or for another process."""

import contextlib
import json
import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from gaxn import processes

log = logging.getLogger(__name__)

LOST, STUCK = 17, 18
"""Exit status of a process whose peer is gone, or never came; of one whose step never ended."""

GRACE = 2.0
"""Seconds in which a process may still say itself why it ends, once another one ends or is gone.

But for the first: it is JAX's coordinator, and JAX aborts the others as soon as that is gone.
"""

BY_TCP = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
"""A machine that is gone is noticed after 15 s, unless JAX (`processes.WAITS`) aborts before."""

ONWARD = "the same command goes on from the last checkpoint"

_leaving = threading.Lock()


def leave(status: int, message: str) -> NoReturn:
    """Ends this process at once: among others an orderly end would wait for those."""
    _speak_and_end(
        status, message, GRACE if processes.count() > 1 and processes.is_first() else 0.0
    )


def _speak_and_end(status: int, message: str, grace: float) -> NoReturn:
    # Of two threads that leave, one speaks.
    _leaving.acquire()
    # Whoever was to read may be gone too.
    with contextlib.suppress(OSError, ValueError):
        # In one piece: what JAX logs from other threads does not come in between.
        sys.stderr.write(f"gaxn: {message}\n")
        sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    time.sleep(grace)
    os._exit(status)


def defer() -> None:
    """Lets the link have the first word: returns if no other process turns out to be gone."""
    time.sleep(1.5 * GRACE)
    # Who leaves keeps it until the end.
    with _leaving:
        pass


class Watchdog:
    """Ends the process if too long nothing happens. As a context: from entering to leaving.

    Args:
        seconds: that are too long.
        end: does it.
    """

    def __init__(self, seconds: float, end: Callable[[], NoReturn]):
        self._seconds = seconds
        self._end = end
        self._heard = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def hear(self) -> None:
        """Something happened."""
        self._heard = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._heard > self._seconds:
                self._end()


def over_steps(seconds: float) -> Watchdog:
    """For training, which is to hear of every step: a stuck one would never be noticed."""
    message = f"no step has ended for {seconds:g} s (config.run.stuck_after); {ONWARD}"
    return Watchdog(seconds, lambda: leave(STUCK, message))


def over_arrivals(seconds: float = 0.95 * processes.ARRIVAL) -> Watchdog:
    """For the start, while the processes come together: JAX would abort without a clear word."""
    message = f"not all processes have come within {seconds:g} s; {ONWARD}"
    # Nothing may ask JAX how many there are before they are together.
    return Watchdog(seconds, lambda: _speak_and_end(LOST, message, 0.0))


@contextlib.contextmanager
def linked(host: str = "", patience: float = 20.0) -> Iterator[None]:
    """Within, this process ends soon after one of the others is gone, whatever it waits for.

    The first has a connection to each of the others. The kernel closes those of a process that
    was killed; one that ends as it should says so first, as leaving this context does.

    Args:
        host: where the first can be reached; by default what its host name resolves to.
        patience: seconds in which the connections have to be made. Without them a run goes on,
            and a lost process is noticed as JAX does: in a step by its error, elsewhere by
            SIGABRT after `processes.WAITS`.
    """
    if processes.count() == 1:
        yield
        return
    peers: dict[socket.socket, int] = {}
    try:
        peers = _accepted(host, patience) if processes.is_first() else _connected(patience)
    except OSError as error:
        log.warning(
            "process %d has no link to the others (%s): if one is lost, this is noticed late",
            processes.index(),
            error,
        )
    for peer in peers:
        _keep_alive(peer)
    threading.Thread(target=_watch, args=(peers,), daemon=True).start()
    yield
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.sendall(b".")


def _accepted(host: str, patience: float) -> dict[socket.socket, int]:
    """The first's connections, and which process is at the other end of each."""
    address, token = "", secrets.token_hex(16)
    server = None
    try:
        address = host or socket.gethostbyname(socket.gethostname())
        server = socket.create_server((address, 0), backlog=processes.count())
    finally:
        port = server.getsockname()[1] if server else 0
        processes.gather(json.dumps([address, port, token]).encode())
    peers: dict[socket.socket, int] = {}
    end = time.monotonic() + patience
    with server:
        while len(peers) < processes.count() - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                log.warning(
                    "%d of the other processes have no link to the first within %g s: if one is "
                    "lost, this is noticed late",
                    processes.count() - 1 - len(peers),
                    patience,
                )
                break
            index = _introduced(peer, token)
            if index is None:
                peer.close()
            else:
                peers[peer] = index
    return peers


def _introduced(peer: socket.socket, token: str) -> int | None:
    """Which process is at the other end; None if it is none of this run's."""
    try:
        peer.settimeout(5)
        with peer.makefile("rb") as lines:
            said, _, index = lines.readline(100).decode(errors="replace").partition(" ")
        peer.settimeout(None)
    except OSError:
        return None
    return int(index) if secrets.compare_digest(said.encode(), token.encode()) else None


def _connected(patience: float) -> dict[socket.socket, int]:
    """The connection to the first."""
    address, port, token = json.loads(processes.gather(b"")[0])
    if not port:
        raise OSError("the first could not listen")
    first = socket.create_connection((address, port), timeout=patience)
    first.sendall(f"{token} {processes.index()}\n".encode())
    first.settimeout(None)
    return {first: 0}


def _keep_alive(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in BY_TCP.items():
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _watch(peers: dict[socket.socket, int]) -> None:
    with selectors.DefaultSelector() as ready:
        for peer in peers:
            ready.register(peer, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select():
                ready.unregister(key.fileobj)
                try:
                    said = key.fileobj.recv(1)
                except OSError:
                    said = b""
                if not said:
                    if processes.is_first():
                        time.sleep(GRACE)
                    leave(LOST, f"process {peers[key.fileobj]} is gone; {ONWARD}")
