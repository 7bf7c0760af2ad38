"""`sesame submit`, against a cluster that only keeps books; `tests/infra/test_hosts.py` has a true one."""

from __future__ import annotations

import http.server
import shlex
import stat
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType
from typer.testing import CliRunner

from data_prep.errors import UserError
from flows import submit as submission
from flows.cli import app
from flows.machine.signals import terminated
from flows.show.console import LineWriter
from flows.submit import Request, submit
from pipeline.recipe.load import load

PENDING, RUNNING, SUCCEEDED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCEEDED


class FakeCluster:
    """Stands for `JobSubmissionClient`. A job goes through `states`, one for each time it is looked at."""

    def __init__(self, *states: Any, code: int | None = 0, log: str = "one two") -> None:
        self.states, self.code = list(states) or [SUCCEEDED], code
        self.log = [f"{line}\n" for line in log.split()]
        self.jobs: dict[str, JobDetails] = {}
        self.sent: list[dict[str, Any]] = []
        self.files: list[str] = []
        self.stopped: list[str] = []
        self.tails = 0

    def add(self, job_id: str, status: JobStatus, **values: Any) -> None:
        values = {"entrypoint": "", **values}
        self.jobs[job_id] = JobDetails(type=JobType.SUBMISSION, submission_id=job_id, status=status, **values)

    def list_jobs(self) -> list[JobDetails]:
        return list(self.jobs.values())

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any]) -> None:
        if submission_id in self.jobs:
            raise RuntimeError(f"Job with submission_id {submission_id} already exists")
        folder = Path(runtime_env["working_dir"])
        self.files = sorted(path.name for path in folder.iterdir())
        self.sent.append({"id": submission_id, "entrypoint": entrypoint, **runtime_env})
        self.add(submission_id, PENDING, entrypoint=entrypoint)

    def get_job_info(self, job_id: str) -> JobDetails:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, BaseException) or (isinstance(state, type) and issubclass(state, BaseException)):
            raise state
        self.add(job_id, state, driver_exit_code=self.code, message="what Ray says")
        return self.jobs[job_id]

    def stop_job(self, job_id: str) -> None:
        self.stopped.append(job_id)
        self.states, self.code = [JobStatus.STOPPED], None

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        self.tails += 1
        for number, text in enumerate(self.log):
            if number == 1 and self.tails == 1 and len(self.log) > 2:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield text


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0.01)


Cluster: Any = FakeCluster  # `submit` is typed for Ray's client


@pytest.fixture
def messages() -> list[str]:
    return []


def request_of(*settings: str, arguments: tuple[str, ...] = (), home: str | None = None) -> Request:
    return Request(load("quickstart", None, settings), "quickstart", arguments, home)


def test_a_run_is_sent_once_and_its_log_and_exit_code_are_passed_on(
    capsys: pytest.CaptureFixture[str], messages: list[str]
) -> None:
    cluster, request = Cluster(PENDING, RUNNING, SUCCEEDED), request_of()
    assert submit(request, cluster, messages.append) == 0
    [sent] = cluster.sent
    assert sent["id"] == f"{request.key}-1" and request.key.startswith("quickstart-")
    assert capsys.readouterr().out == "one\ntwo\n"
    assert messages == [f"sent as {request.key}-1; Ctrl-C stops it"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (143, 143), (-9, 137)])
def test_the_exit_code_is_the_jobs(code: int, expected: int) -> None:
    status = JobStatus.FAILED if code else SUCCEEDED
    assert submit(request_of(), Cluster(status, code=code)) == expected


def test_a_job_that_never_started_says_why(messages: list[str]) -> None:
    assert submit(request_of(), Cluster(JobStatus.FAILED, code=None), messages.append) == 1
    assert messages[-1].endswith("failed: what Ray says")


@pytest.mark.parametrize("status", [PENDING, RUNNING])
def test_a_live_job_is_attached_to(status: JobStatus, messages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster, request = Cluster(), request_of()
    cluster.add(f"{request.key}-1", SUCCEEDED)
    cluster.add(f"{request.key}-2", status, entrypoint=request.entrypoint)
    assert submit(request, cluster, messages.append) == 0
    assert cluster.sent == [] and capsys.readouterr().out == "one\ntwo\n"
    assert messages == [f"attached to {request.key}-2, which is {status.lower()}; Ctrl-C stops it"]


def test_a_live_job_that_runs_otherwise_is_shown(messages: list[str]) -> None:
    request = request_of("placement.workers=4")
    cluster, other = Cluster(), "sesame run quickstart --set=placement.workers=2"
    cluster.add(f"{request.key}-1", RUNNING, entrypoint=f"sent=$PWD; exec {other}")
    submit(request, cluster, messages.append)
    assert f"sent as `{other}`" in messages[0]


@pytest.mark.parametrize("ended", [SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED])
def test_after_the_last_attempt_has_ended_the_next_one_is_sent(ended: JobStatus) -> None:
    cluster, request = Cluster(), request_of()
    for attempt in (1, 2, 10):
        cluster.add(f"{request.key}-{attempt}", ended)
    cluster.add("quickstart-0000000000000000-12", RUNNING)
    cluster.add("raysubmit_1234", RUNNING)
    submit(request, cluster)
    assert cluster.sent[0]["id"] == f"{request.key}-11"


def test_two_that_send_at_once_send_one_job(messages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, request = Cluster(), request_of()
    monkeypatch.setattr(cluster, "list_jobs", list)
    cluster.add(f"{request.key}-1", RUNNING)
    assert submit(request, cluster, messages.append) == 0
    assert cluster.sent == [] and "sent from elsewhere a moment ago" in messages[0]


def test_the_key_is_of_what_is_made() -> None:
    key = request_of().key
    assert request_of("placement.workers=4", arguments=("--set=placement.workers=4",)).key == key
    others = [
        request_of("seed=5"),
        request_of("train.steps=7"),
        request_of(arguments=("--extend",)),
        request_of(home="/other"),
    ]
    assert len({key, *(other.key for other in others)}) == 5


def test_ctrl_c_stops_the_job_and_waits_for_its_end(messages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster, request = Cluster(RUNNING, KeyboardInterrupt), request_of()
    assert submit(request, cluster, messages.append) == 130
    assert cluster.stopped == [f"{request.key}-1"] and messages[-1].startswith(f"stopping {request.key}-1")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_sigterm_stops_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated.set()
    try:
        assert submit(request_of(), Cluster(KeyboardInterrupt)) == 143
    finally:
        terminated.clear()


def test_an_interrupt_while_it_is_sent_stops_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, request = Cluster(), request_of()
    send = cluster.submit_job

    def interrupted(**values: Any) -> None:
        send(**values)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "submit_job", interrupted)
    assert submit(request, cluster) == 130 and cluster.stopped == [f"{request.key}-1"]


def test_what_the_cluster_says_is_safe_to_print(messages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Passwords that come in parts, control characters, colours of Ray's, bars of progress, a line without an end."""
    cluster = Cluster(RUNNING, SUCCEEDED)
    text = "a\x1b]0;owned\x07\x1b[2J\u202e\n\x1b[36m(worker)\x1b[0m at http://me:hunter2@h/?sig=hunter2\r\n1%\r2%\nend?sig=hunter2"
    cluster.log = [text[start : start + 3] for start in range(0, len(text), 3)]
    assert submit(Request(load("quickstart"), "quickstart", []), cluster, messages.append) == 0  # type: ignore[arg-type]
    expected = "a␛]0;owned␇␛[2J�\n(worker) at http://me:***@h/?sig=***\n1%\n2%\nend?sig=***\n"
    assert capsys.readouterr().out == expected


def test_a_line_without_an_end_takes_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    writer = LineWriter()
    for _ in range(10):
        writer.write("x" * (LineWriter.LONGEST // 2 + 1))
    writer.end()
    assert {len(line) for line in capsys.readouterr().out.split()} == {LineWriter.LONGEST + 2}


def test_lost_connections_lose_no_line_and_repeat_none(messages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(RUNNING, ConnectionError, RuntimeError("503"), RUNNING, SUCCEEDED, log="a b c")
    assert submit(request_of(), cluster, messages.append) == 0
    assert capsys.readouterr().out == "a\nb\nc\n" and cluster.tails == 2
    assert messages.count("the cluster does not answer; trying again") == 1


def test_a_cluster_that_stays_away_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "SILENCE_SECONDS", 0.05)
    with pytest.raises(UserError, match=r"has not answered for .*: the same command attaches to it"):
        submit(request_of(), Cluster(RUNNING, ConnectionError))


def test_a_job_that_is_refused_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()

    def refuse(**values: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(cluster, "submit_job", refuse)
    with pytest.raises(UserError, match=r"does not take the job .*no room"):
        submit(request_of(), cluster)


# -- the job's command ------------------------------------------------------------------------------------------------


@pytest.fixture
def carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Carries a request's command out as Ray does, with a `sesame` that says where it is and what it was given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sesame").write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    (programs / "sesame").chmod(0o755)
    sent = tmp_path / "sent"
    sent.mkdir()

    def run(request: Request, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": f"{programs}:/usr/bin:/bin", **request.environment(sent)["env_vars"], **variables}
        return subprocess.run(
            request.entrypoint, shell=True, cwd=sent, env=given, capture_output=True, text=True, check=False
        )

    return run


def test_the_command_runs_where_submit_ran(carried_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "my project's folder"
    here.mkdir()
    monkeypatch.chdir(here)
    awkward = "--set=title=a \"b\" 'c' $HOME; rm"
    done = carried_out(request_of(arguments=("--scale=tiny", awkward)), SESAME_HOME="/shared")
    assert done.stdout.splitlines() == [str(here), "run", "quickstart", "--scale=tiny", awkward]


def test_elsewhere_it_runs_in_the_home(carried_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "only here"
    here.mkdir()
    monkeypatch.chdir(here)
    request = request_of(home=str(tmp_path / "home"))
    command = request.entrypoint
    here.rmdir()
    monkeypatch.setattr(Request, "entrypoint", command)
    assert carried_out(request).stdout.splitlines() == [str(tmp_path / "home"), "run", "quickstart"]


def test_a_cluster_without_a_home_says_so(carried_out: Any) -> None:
    done = carried_out(request_of())
    assert done.returncode == 2 and "the cluster has no SESAME_HOME; give --home FOLDER" in done.stderr


def test_a_recipe_of_ones_own_is_sent_along(carried_out: Any, tmp_path: Path) -> None:
    file = tmp_path / "my recipe.yaml"
    file.write_text(load("quickstart").to_yaml())
    request = Request(load(file), str(file), ())
    cluster = Cluster()
    submit(request, cluster)
    assert cluster.files == ["my recipe.yaml"]
    ran = carried_out(request, SESAME_HOME="/shared").stdout.splitlines()
    assert ran[1:] == ["run", str(tmp_path / "sent" / "my recipe.yaml")]


@pytest.mark.parametrize(("umask", "rights"), [(None, 0o700), ("027", 0o750)])
def test_a_home_that_the_job_makes_is_as_closed_as_one_here(
    umask: str | None, rights: int, carried_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SESAME_UMASK", raising=False)
    if umask:
        monkeypatch.setenv("SESAME_UMASK", umask)
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "not on the cluster")
    assert carried_out(request_of(home=str(tmp_path / "new"))).stdout.splitlines()[0] == str(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == rights


def test_ray_waits_for_the_checkpoint_before_it_kills() -> None:
    variables = request_of("placement.watch.stop_seconds=90").environment(Path("/sent"))["env_vars"]
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "150" and "SESAME_HOME" not in variables


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_gives_the_run_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, asked = Cluster(JobStatus.FAILED, code=3), []
    monkeypatch.setattr(submission, "connect", lambda address: (asked.append(address), cluster)[1])
    command = "submit bert --scale tiny --set train.steps=5 --workers 3 --from 100 --home /h --address http://head:8265"
    assert CliRunner().invoke(app, command.split()).exit_code == 3
    ran = shlex.split(cluster.sent[0]["entrypoint"].rpartition("exec ")[2])
    settings = ["--set=train.steps=5", "--set=placement.workers=3", "--set=placement.ray_address=auto"]
    assert ran == ["sesame", "run", "bert", "--scale=tiny", *settings, "--from=100"]
    assert cluster.sent[0]["env_vars"]["SESAME_HOME"] == "/h" and asked == ["http://head:8265"]


def test_a_mistake_in_the_recipe_is_told_here() -> None:
    done = CliRunner().invoke(app, ["submit", "bert", "--set", "train.stepz=5", "--address", "http://127.0.0.1:1"])
    assert isinstance(done.exception, UserError) and "stepz" in str(done.exception)


# -- the server of jobs -----------------------------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], str]]:
    """Starts a server that answers everything with a status; returns its address."""
    servers = []
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # must not be asked instead

    def start(status: int) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"Unauthorized: Missing authentication token")

            def log_message(self, *arguments: Any) -> None: ...

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "why"),
    [(401, "refuses this process's token"), (403, "refuses this process's token"), (404, "no server of Ray's jobs"),
     (500, "nothing answers there|no server of Ray's jobs"), (200, "no server of Ray's jobs|nothing answers")],
)  # fmt: skip
def test_a_server_that_is_not_ours_is_named(answering: Callable[[int], str], status: int, why: str) -> None:
    with pytest.raises(UserError, match=why):
        submission.connect(answering(status))


def test_an_address_of_another_kind_is_named(answering: Callable[[int], str]) -> None:
    with pytest.raises(UserError, match=r"--address head:6379: allowed: .* http://HOST:8265"):
        submission.connect("head:6379")
    with pytest.raises(UserError, match=r"--address http://127\.0\.0\.1:1: nothing answers there"):
        submission.connect("http://127.0.0.1:1")
