from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console
from rich.table import Table

from flows.show.console import StageProgress, elapsed, new_console, say

NAMES = ["ingest", "pretrain"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def quiet(names: list[str] = NAMES) -> tuple[StageProgress, Clock, io.StringIO]:
    file, clock = io.StringIO(), Clock()
    return StageProgress(Console(file=file, width=40), names, clock), clock, file


def lines(file: io.StringIO) -> list[str]:
    printed = file.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in printed)
    return [line[9:] for line in printed]


def live(progress: StageProgress, width: int = 100, encoding: str = "utf-8") -> list[str]:
    """What the live display would draw now."""
    buffer = io.BytesIO()
    with io.TextIOWrapper(buffer, encoding) as file:
        Console(file=file, width=width, force_terminal=True, color_system=None).print(progress)
        file.flush()
        return [line.rstrip() for line in buffer.getvalue().decode(encoding).splitlines()]


# -- plain lines ------------------------------------------------------------------------------------------------------


def test_plain_lines_tell_start_and_end() -> None:
    progress, clock, file = quiet()
    with progress:
        progress.start("ingest")
        clock.now += 65
        progress.end("ingest", "made", "ingest-01")
        progress.start("pretrain")
        progress.end("pretrain", "reused", "pretrain-02")
        progress.end("report", "skipped")
    assert lines(file) == [
        "ingest: started",
        "ingest: made in 1:05 (ingest-01)",
        "pretrain: started",
        "pretrain: reused (pretrain-02)",
        "report: skipped",
    ]


def test_at_most_one_line_in_ten_seconds_per_stage() -> None:
    progress, clock, file = quiet()
    report, other = progress.callback("pretrain"), progress.callback("ingest")
    report("step 0")  # the first report is the start
    for step in range(1, 250):
        clock.now += 0.1
        report(f"step {step}", step / 250)
    other("elsewhere")
    assert lines(file) == [
        "pretrain: step 0",
        "pretrain: step 100 (40%)",
        "pretrain: step 200 (80%)",
        "ingest: elsewhere",
    ]


def test_long_lines_are_not_wrapped_and_control_characters_do_nothing() -> None:
    progress, _, file = quiet()
    progress.start("ingest", "a very long message " * 10 + "\x1b[2J\n[bold]")
    [line] = lines(file)
    assert line.endswith("␛[2J␊[bold]") and "\x1b" not in line


# -- any console ------------------------------------------------------------------------------------------------------


def test_reports_before_and_after() -> None:
    progress, _, file = quiet()
    report = progress.callback("ingest")
    assert file.getvalue() == ""
    report("reading")
    progress.end("ingest", "made")
    report("too late", 0.5)
    assert "too late" not in file.getvalue() and "✓ ingest" in live(progress)[0]


def test_an_exception_fails_what_was_running() -> None:
    progress, _, file = quiet(["a", "b", "c"])
    with pytest.raises(KeyboardInterrupt), progress:
        progress.start("a")
        progress.end("a", "made")
        progress.start("b")
        raise KeyboardInterrupt
    assert lines(file)[-1] == "b: failed in 0:00 (interrupted)"
    assert [line[0] for line in live(progress)] == ["✓", "✗", "·"]


@pytest.mark.parametrize("done", [float("nan"), float("inf"), -3.0, 2])
def test_a_strange_share_does_not_end_a_run(done: float) -> None:
    progress, _, _ = quiet()
    progress.callback("ingest")("message", done)
    assert "message" in live(progress)[0]


def test_threads_may_report_at_once() -> None:
    progress, _, _ = quiet([])
    threads = [
        threading.Thread(target=lambda n=n: [progress.callback(f"stage-{n}")(str(i), i / 200) for i in range(200)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        live(progress)
    for thread in threads:
        thread.join()
    drawn = live(progress)
    assert len(drawn) == 8 and all(line.split()[-2] == "199" for line in drawn)


# -- a terminal -------------------------------------------------------------------------------------------------------


def test_the_live_lines() -> None:
    progress, clock, _ = quiet(["ingest", "tokenizer", "shards", "pretrain", "report"])
    progress.start("ingest")
    progress.end("ingest", "reused", "ingest-01")
    progress.start("tokenizer")
    clock.now += 3
    progress.end("tokenizer", "failed", "no text")
    progress.callback("shards")("row 7", 0.5)
    progress.callback("pretrain")("loading")
    clock.now += 3700
    reused, failed, shards, pretrain, report = live(progress)
    assert reused == "↺ ingest    reused ingest-01"
    assert failed.startswith("✗ tokenizer failed no text") and failed.endswith("0:03")
    assert re.search(r"━+.* 50% row 7 +1:01:40$", shards)
    assert re.search(r"pretrain +loading +1:01:40$", pretrain) and report == "· report"


@pytest.mark.parametrize("width", [30, 60, 100, 250])
def test_every_stage_has_one_line_at_any_width(width: int) -> None:
    progress, clock, _ = quiet(["ingest", "a-stage-with-a-rather-long-name", "pretrain"])
    progress.callback("a-stage-with-a-rather-long-name")("a message that is long " * 20, 0.3)
    progress.callback("pretrain")("a message that is long " * 20)
    clock.now += 61
    drawn = live(progress, width)
    assert len(drawn) == 3 and all(len(line) <= min(width, 110) for line in drawn)
    assert drawn[1].endswith("1:01") and drawn[2].endswith("1:01")


def test_a_terminal_without_unicode() -> None:
    progress, _, _ = quiet(["ingest", "shards"])
    progress.start("ingest")
    progress.end("ingest", "made")
    progress.callback("shards")("row 7 of naïve " + "…" * 100, 0.5)
    drawn = live(progress, encoding="ascii")
    assert drawn[0].startswith("+ ingest") and "50% row 7 of na?ve ????" in drawn[1]
    buffer = io.BytesIO()
    with io.TextIOWrapper(buffer, "ascii") as file:
        StageProgress(Console(file=file), []).start("café")
        file.flush()
        assert buffer.getvalue().endswith(b" caf?: started\n")


def test_a_terminal_gets_live_lines_and_no_plain_ones() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, force_interactive=True)
    with StageProgress(console, NAMES) as progress:
        progress.start("ingest")
        progress.end("ingest", "made", "ingest-01")
    text = file.getvalue()
    assert "made ingest-01" in text and "ingest: " not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_elapsed() -> None:
    assert [elapsed(seconds) for seconds in (-1, 0, 59.9, 60, 3599, 3600, 360000)] == [
        "0:00", "0:00", "0:59", "1:00", "59:59", "1:00:00", "100:00:00"
    ]  # fmt: skip


# -- errors -----------------------------------------------------------------------------------------------------------


def test_errors_go_to_standard_error_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    message = "bert.yaml: train.stepz: unknown key [steps] " + "and more " * 20
    say(message)
    say("no \x1b[2J of http://me:secret@example.org")
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"sesame: {message}\nsesame: no ␛[2J of http://me:***@example.org\n")


def test_brackets_of_a_path_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("path")
    table.add_row("/data/[bold]/[2024] :smile:.csv")
    console = new_console()
    console.print("/data/[bold]/[2024] :smile:.csv")
    console.print(table)
    assert capsys.readouterr().out.count("/data/[bold]/[2024] :smile:.csv") == 2
