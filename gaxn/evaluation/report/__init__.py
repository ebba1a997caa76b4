"""The report of a run: report.html, one page without a network, while it trains and after."""

import json
import logging
import threading
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gaxn.distributed import multihost
from gaxn.evaluation.report import collect
from gaxn.evaluation.report.pictures import Encoded, Pictures
from gaxn.evaluation.report.run_state import (
    DONE,
    FAILED,
    STOPPED,
    TRAINING,
    State,
    infer_state,
)
from gaxn.io import files
from gaxn.types import InputError

__all__ = [
    "DONE",
    "FAILED",
    "STOPPED",
    "TRAINING",
    "ReportWriter",
    "State",
    "report_run",
    "write_comparison",
    "write_report",
]

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
NAME = "report.html"

UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters that could end the data of a page, as JSON writes them otherwise."""


def write_report(workdir: Path, state: State | None = None) -> None:
    """Writes report.html of a run, from the files in its directory; only in the first process.

    A report that fails is a warning, since the run matters more.

    Args:
        workdir: the directory of the run.
        state: of the run; None to infer it from the files of the run.
    """
    try:
        _write(workdir, state)
    except Exception as error:  # noqa: BLE001
        _warn(workdir, error)


def _write(
    workdir: Path, state: State | None = None, encoded: Mapping[Hashable, Encoded] = {}
) -> dict[Hashable, Encoded]:
    """Writes report.html.

    Args:
        workdir, state: as for `write_report`.
        encoded: pictures of an earlier report, which are used again.

    Returns:
        Pictures of this report.
    """
    if not multihost.is_first():
        return {}
    pictures = Pictures(dict(encoded))
    state = infer_state(workdir) if state is None else state
    data = collect.collect_report(workdir, state, pictures)
    files.write_bytes(workdir / NAME, render(data["runs"][0]["name"], data))
    return pictures.encoded


def _warn(workdir: Path, error: Exception) -> None:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    log.warning("warning: %s cannot be written (%s)", workdir / NAME, reason)


def write_comparison(target: Path, workdirs: Mapping[str, Path], table: Mapping[str, Any]) -> None:
    """Writes report.html of several runs.

    Args:
        target: the directory of the comparison.
        workdirs: the directories of the runs, by label.
        table: of their facts and figures: "columns", "rows" and "notes".
    """
    data = collect.collect_comparison(workdirs, table, Pictures())
    files.write_bytes(target / NAME, render(", ".join(workdirs), data))


def report_run(workdir: Path) -> int:
    """Writes report.html of any run anew, and nothing else; returns the exit status.

    Raises:
        InputError: there is no run.
    """
    if not (workdir / "config.json").exists():
        raise InputError(f"--workdir {workdir} holds no run; train one first")
    _write(workdir)
    print(workdir / NAME)
    return 0


def render(title: str, data: Mapping[str, Any]) -> bytes:
    """Returns the page of a report, in UTF-8."""
    loader = jinja2.FileSystemLoader(FOLDER)
    # Pages are not kept: a template is rendered once in a while.
    environment = jinja2.Environment(loader=loader, autoescape=True, cache_size=0)
    css, script = (Markup((FOLDER / name).read_text()) for name in ("page.css", "page.js"))
    parts = {"title": f"{title} - gaxn", "css": css, "script": script}
    template = environment.get_template("page.html.j2")
    return template.render(**parts, data=Markup(dump(data))).encode()


def dump(data: Mapping[str, Any]) -> str:
    """Returns JSON in which no text can end the element of a page that holds it."""
    text = json.dumps(_finite(data), allow_nan=False, ensure_ascii=False)
    for character, escaped in UNSAFE.items():
        text = text.replace(character, escaped)
    # Text from damaged files may have halves of pairs, which are no UTF-8.
    return text.encode("utf-8", "replace").decode()


def _finite(value: Any) -> Any:
    """Returns a value with None for numbers that are not finite."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


class ReportWriter:
    """Writes the report of a run that trains, in a thread; of several requests the newest.

    A report that fails is one warning, and the run goes on. As a context it writes the last
    request at the end; if an error ends it, the report says so.

    Args:
        workdir: the directory of the run.
    """

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._condition = threading.Condition()
        self._request: State | None = None
        self._is_closed = self._has_warned = False
        self._encoded: dict[Hashable, Encoded] = {}
        self._thread: threading.Thread | None = None
        self._last = State(TRAINING)

    def __enter__(self) -> "ReportWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, *_) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.update(self._last._replace(kind=STOPPED, message="interrupted"))
        elif error is not None:
            text = str(error).partition("\n")[0]
            name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self.update(self._last._replace(kind=FAILED, message=f"{name}{text}"))
        self.close()

    def update(self, state: State) -> None:
        """Asks for a report of this state; does not wait for it."""
        if not multihost.is_first():
            return
        with self._condition:
            self._request = self._last = state
            self._condition.notify()
        if self._thread is None:
            # It must not keep a process alive that is to end at once.
            self._thread = threading.Thread(target=self._run, name="report", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Waits for the report of the last request, and ends."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._request is not None or self._is_closed)
                state, self._request = self._request, None
            if state is None:
                return
            try:
                self._encoded = _write(self._workdir, state, self._encoded)
            except Exception as error:  # noqa: BLE001
                if not self._has_warned:
                    _warn(self._workdir, error)
                self._has_warned = True
