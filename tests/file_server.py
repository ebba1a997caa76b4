"""A server of files on this machine."""

import http.server
import threading
from pathlib import Path


class Server:
    """Serves a folder, with ranges; can close connections early.

    Attributes:
        url: of the folder.
        requests: path and Range header of each request.
        ends_after: bytes of a body after which the connection closes; None for all.
    """

    def __init__(self, folder: Path):
        self.requests: list[tuple[str, str | None]] = []
        self.ends_after: int | None = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                span = self.headers.get("Range")
                outer.requests.append((self.path, span))
                file = folder / self.path.lstrip("/")
                if not file.exists():
                    return self.send_error(404)
                content = file.read_bytes()
                first = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
                if first >= len(content) and span:
                    return self.send_error(416)
                self.send_response(206 if span else 200)
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                self.wfile.write(content[first:][: outer.ends_after])

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
