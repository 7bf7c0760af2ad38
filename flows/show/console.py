"""Progress of stages on a console, and how errors are printed.

    terminal    one live line per stage: ⠋ pretrain  step 120 of 600 ━━━━╸───── 0:41
    elsewhere   plain lines: 14:03:07 pretrain: step 120 of 600
    both        warnings, as lines that stay

Stages report from any thread. Reports change nothing but this display, and never raise: a display must not end a run.
"""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from data_prep.legible import masked, plain, safe

Status = Literal["waiting", "running", "made", "reused", "failed", "skipped"]

SIGNS: dict[str, tuple[str, str, str]] = {  # on a terminal, on one without Unicode, style
    "waiting": ("·", ".", "dim"),
    "made": ("✓", "+", "green"),
    "reused": ("↺", "=", "cyan"),
    "failed": ("✗", "!", "bold red"),
    "skipped": ("–", "-", "dim"),
}
QUIET_SECONDS = 10.0  # between two plain lines of one stage
BAR_WIDTH = 24
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,30}m")
_LINE_END = re.compile(r"\r?\n|\r(?=[^\n])")  # a last "\r" waits for what follows
MAX_WIDTH = 110  # of the live lines, so that times stay near what took them


@dataclass
class StageLine:
    """State of one stage; times are in seconds, of the display's clock."""

    name: str
    status: Status = "waiting"
    message: str = ""
    done: float | None = None
    began: float = 0.0
    ended: float = 0.0
    printed: float = -math.inf  # when its last plain line was written


class StageProgress:
    """Progress of the named stages, from `with` to its end; unknown names are added at the bottom.

        with StageProgress(console, ["ingest", "pretrain"]) as progress:
            progress.start("ingest")
            make(progress.callback("ingest"))      # callback(message, done=None, warning=""); done in 0..1
            progress.end("ingest", "made", "ingest-0123…")

    If the block raises, stages that were running are shown as failed. `clock`: seconds, for elapsed times.
    """

    def __init__(self, console: Console, names: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._lines = {name: StageLine(name) for name in names}
        self._lock = threading.RLock()
        self._spinners = {False: Spinner("dots", style="cyan"), True: Spinner("line", style="cyan")}
        is_live = console.is_interactive and console.is_terminal
        self._live = Live(self, console=console, refresh_per_second=8) if is_live else None

    def __enter__(self) -> StageProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            detail = "interrupted" if issubclass(kind, KeyboardInterrupt) else ""
            for name in [line.name for line in self._lines.values() if line.status == "running"]:
                self.end(name, "failed", detail)
        if self._live is not None:
            self._live.stop()

    def start(self, name: str, message: str = "") -> None:
        """Show that a stage has begun, perhaps again."""
        with self._lock:
            line = self._line(name)
            line.status, line.message, line.done, line.began = "running", message, None, self._clock()
            self._tell(line, message or "started")

    def end(self, name: str, status: Literal["made", "reused", "failed", "skipped"], detail: str = "") -> None:
        """Show that a stage has ended. detail: its key, or why it ended so."""
        with self._lock:
            line = self._line(name)
            now = self._clock()
            line.began = now if line.status == "waiting" else line.began
            line.status, line.message, line.done, line.ended = status, detail, None, now
            took = f" in {elapsed(now - line.began)}" if status in ("made", "failed") else ""
            self._tell(line, f"{status}{took}{f' ({detail})' if detail else ''}")

    def callback(self, name: str) -> Callable[..., None]:
        """A function `report(message, done=None, warning="")` for a stage; once it has ended, reports are not shown."""

        def report(message: str, done: float | None = None, warning: str = "") -> None:
            with self._lock:
                line = self._line(name)
                if line.status == "waiting":
                    self.start(name, message)
                if line.status != "running":
                    return
                line.message = str(message)
                line.done = None if done is None or math.isnan(done) else min(max(float(done), 0.0), 1.0)
                if warning:
                    self._print(line, f"warning: {warning}", "yellow")
                if self._clock() - line.printed >= QUIET_SECONDS:
                    share = "" if line.done is None else f" ({line.done:.0%})"
                    self._tell(line, f"{line.message}{share}")

        return report

    def _line(self, name: str) -> StageLine:
        return self._lines.setdefault(name, StageLine(name))

    def _tell(self, line: StageLine, text: str) -> None:
        """Print a plain line where there is no live display."""
        if self._live is not None:
            return
        line.printed = self._clock()
        self._print(line, text)

    def _print(self, line: StageLine, what: str, style: str = "") -> None:
        """Print a permanent line, above the live ones if there are any."""
        text = legible(f"{time.strftime('%H:%M:%S')} {line.name}: {what}", self.console.encoding)
        self.console.print(Text(text, style), soft_wrap=True, highlight=False)

    # -- live ---------------------------------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Called by the live display, from its own thread."""
        table = Table.grid(padding=(0, 1))
        table.width = min(options.max_width, MAX_WIDTH)
        with self._lock:
            now = self._clock()
            name_width = min(max(map(len, self._lines), default=0), options.max_width // 3)
            table.add_column(no_wrap=True, width=1)
            overflow = "crop" if options.ascii_only else "ellipsis"
            table.add_column(no_wrap=True, overflow=overflow, width=name_width)
            table.add_column(no_wrap=True, overflow=overflow, ratio=1)
            table.add_column(no_wrap=True, justify="right", width=8)
            for line in self._lines.values():
                table.add_row(*self._cells(line, now, options))
        yield table

    def _cells(self, line: StageLine, now: float, options: ConsoleOptions) -> list[Text | Spinner | Table]:
        name, message = legible(line.name, options.encoding), legible(line.message, options.encoding)
        if line.status == "running":
            content: Text | Table = Text(message)
            if line.done is not None:
                content = Table.grid(padding=(0, 1))
                content.add_column(no_wrap=True, width=BAR_WIDTH)
                content.add_column(no_wrap=True, overflow="crop" if options.ascii_only else "ellipsis")
                bar = ProgressBar(total=1.0, completed=line.done, width=BAR_WIDTH)
                content.add_row(bar, Text(f"{line.done:4.0%} {message}"))
            return [
                self._spinners[options.ascii_only],
                Text(name, "bold"),
                content,
                Text(elapsed(now - line.began), "dim"),
            ]
        sign, plain_sign, style = SIGNS[line.status]
        is_over = line.status != "waiting"
        status_text = f"{line.status} {message}".rstrip() if is_over else ""
        took = elapsed(line.ended - line.began) if line.status in ("made", "failed") else ""
        return [
            Text(plain_sign if options.ascii_only else sign, style),
            Text(name, "" if is_over else "dim"),
            Text(status_text, "red" if line.status == "failed" else "dim"),
            Text(took, "dim"),
        ]


class SafeConsole(Console):
    """A console on which nothing is printed but safe text, whatever renders it: see `data_prep.legible`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and (text := safe(renderable.plain)) != renderable.plain:
            same_length = len(text) == len(renderable.plain)  # then colours stay where they are
            renderable, before = renderable.copy(), renderable
            renderable.plain = text
            renderable.spans = before.spans if same_length else []
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_encodable(safe(segment.text), self.encoding), segment.style)


class LineWriter:
    """Prints text of another machine to standard output as it comes, in whole lines, as a secret may come in parts.

    Colours are left out, and a return to the start of a line begins a new one.
    """

    LONGEST = 1 << 16  # characters of a line; the rest goes onto the next

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> None:
        *lines, self._begun = _LINE_END.split(_COLOUR.sub("", self._begun + text))
        if len(self._begun) > self.LONGEST:
            lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            print(_encodable(safe(line), sys.stdout.encoding or "utf-8"))
        sys.stdout.flush()

    def end(self) -> None:
        """Print what has no line end yet."""
        if self._begun:
            self.write("\n")


def legible(text: str, encoding: str) -> str:
    """Text on one line that is safe for a terminal with this encoding."""
    return _encodable(masked(plain(text)), encoding)


def _encodable(text: str, encoding: str) -> str:
    """Characters that the encoding lacks become question marks."""
    return text.encode(encoding, "replace").decode(encoding)


def elapsed(seconds: float) -> str:
    """Seconds in the form 0:05, 12:34 or 1:02:03."""
    minutes, second = divmod(int(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def new_console(stderr: bool = False) -> Console:
    """A console that prints text as it is: brackets in a path are no markup."""
    return SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(message: str) -> None:
    """Print `sesame: MESSAGE` on standard error."""
    print(safe(f"sesame: {message}"), file=sys.stderr)
