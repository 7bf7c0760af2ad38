"""Sends a run to a Ray cluster as a job, and stays with it until it ends.

    submission id    RECIPE-KEY-ATTEMPT; the key is a digest of what the run would make, attempts count from 1
    a live job       of the same key is attached to, not sent twice
    its log          is printed as it grows, in spite of lost connections
    Ctrl-C           stops the job: training writes a checkpoint, and all that the job runs on the cluster ends
    exit code        the job's own

The job is `sesame run` with the same arguments, on the head of the cluster, in the cluster's home.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import private
from data_prep.errors import UserError
from flows.exit_codes import DONE, FAILED, INTERRUPTED, TERMINATED, USAGE
from flows.machine.signals import terminated
from flows.show.console import LineWriter
from pipeline.fingerprint import digest
from pipeline.recipe.recipe import Experiment

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

KEY_DIGITS = 16
LOOK_SECONDS = 1.0  # between two looks at a job
SILENCE_SECONDS = 300.0  # in which a cluster that went away may come back
LOG_SECONDS = 15.0  # for the rest of the log of a job that has ended
STOP_MARGIN = 60  # seconds beyond `watch.stop_seconds` before Ray kills a job that is to stop
NO_HOME = "sesame: the cluster has no SESAME_HOME; give --home FOLDER, one that all its hosts share"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to run: a loaded recipe, and the arguments of `sesame run` that give it."""

    recipe: Experiment
    name_or_path: str
    arguments: Sequence[str]
    home: str | None = None
    """Folder of the home on the cluster; None: its `SESAME_HOME`."""

    @property
    def key(self) -> str:
        """What the ids of all its submissions begin with. Where and how fast it runs is no part of it."""
        science = {"recipe": self.recipe.science(), "home": self.home, "start": self._start()}
        return f"{self.recipe.name}-{digest(science)[:KEY_DIGITS]}"

    def _start(self) -> list[str]:
        return [argument for argument in self.arguments if argument.startswith(("--extend", "--from"))]

    @property
    def file(self) -> Path | None:
        """The recipe's file, which is sent along; None for a packaged recipe."""
        path = Path(self.name_or_path).expanduser()
        return path if "/" in self.name_or_path or path.suffix in (".yaml", ".yml") else None

    @property
    def entrypoint(self) -> str:
        """The job's command, in the folder that `submit` ran in if the cluster has it: paths may be relative."""
        recipe = f'"$sent/{self.file.name}"' if self.file else shlex.quote(self.name_or_path)
        steps = [
            f'umask "${{{private.VARIABLE}:-{private.CLOSED:03o}}}"',
            "sent=$PWD",
            f'test -n "$SESAME_HOME" || {{ echo {shlex.quote(NO_HOME)} >&2; exit {USAGE}; }}',
            f'cd {shlex.quote(str(Path.cwd()))} 2>/dev/null || {{ mkdir -p "$SESAME_HOME" && cd "$SESAME_HOME"; }}',
            f"exec sesame run {recipe} {shlex.join(self.arguments)}".rstrip(),
        ]
        return "; ".join(steps)

    def environment(self, sent: Path) -> dict[str, Any]:
        """Ray's description of what the job finds there. sent: folder of the files that are sent along."""
        wait = int(self.recipe.placement.watch.stop_seconds) + STOP_MARGIN
        variables = {"PYTHONUNBUFFERED": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(wait)}
        if self.home is not None:
            variables["SESAME_HOME"] = self.home
        if private.VARIABLE in os.environ:
            variables[private.VARIABLE] = f"{private.umask():03o}"
        return {"env_vars": variables, "working_dir": str(sent)}


def connect(address: str) -> JobSubmissionClient:
    """A client of the server of jobs at `address`, http://HOST:8265. Raises UserError where that does not answer."""
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address {address}: allowed: the address of Ray's server of jobs, such as http://HOST:8265")
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # the end of a log is no news
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # the client prefers variables to what it is given
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise _refused(address, error) from None
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise UserError(f"--address {address}: nothing answers there ({error}); start the cluster's head") from None
    except (RuntimeError, ValueError) as error:  # another server, or another version of Ray
        raise UserError(f"--address {address}: no server of Ray's jobs ({error})") from None


def _refused(address: str, error: Any) -> UserError:
    return UserError(
        f"--address {address}: the cluster refuses this process's token ({error.message}); set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN_PATH, the path of a file with the cluster's token"
    )


def submit(request: Request, client: JobSubmissionClient, say: Say = lambda message: None) -> int:
    """Send a run, or attach to the live job of the same key, and stay until it ends; returns its exit code."""
    attempt, live = _newest(request, client)
    job_id = f"{request.key}-{attempt if live else attempt + 1}"
    log = _Log(client, job_id)
    try:
        if live:
            sent = live.entrypoint
            other = "" if sent == request.entrypoint else f", sent as `{sent[sent.find('exec') + 5 :]}`"
            say(f"attached to {job_id}, which is {live.status.lower()}{other}; Ctrl-C stops it")
        else:
            _send(request, client, job_id, say)
        log.start()
        details, interrupted = _ended(client, job_id, say), False
    except KeyboardInterrupt:
        say(f"stopping {job_id}: training writes a checkpoint; a second Ctrl-C leaves it to itself")
        client.stop_job(job_id)
        details, interrupted = _ended(client, job_id, say), True
    log.finish()
    return _exit_code(details, interrupted, say)


def _newest(request: Request, client: JobSubmissionClient) -> tuple[int, JobDetails | None]:
    """The newest attempt at a request (0: none), and its job if that is alive."""
    attempts = {
        int(attempt): job
        for job in client.list_jobs()
        for key, _, attempt in [(job.submission_id or "").rpartition("-")]
        if key == request.key and attempt.isdigit()
    }
    newest = max(attempts, default=0)
    job = attempts.get(newest)
    return newest, job if job and not job.status.is_terminal() else None


def _send(request: Request, client: JobSubmissionClient, job_id: str, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="sesame-") as folder:
        if request.file:
            shutil.copy(request.file, folder)
        try:
            client.submit_job(
                entrypoint=request.entrypoint, submission_id=job_id, runtime_env=request.environment(Path(folder))
            )
        except RuntimeError as error:
            if "already" not in str(error):
                raise UserError(f"the cluster does not take the job {job_id} ({error})") from None
            say(f"attached to {job_id}, which was sent from elsewhere a moment ago; Ctrl-C stops it")
            return
    say(f"sent as {job_id}; Ctrl-C stops it")


def _ended(client: JobSubmissionClient, job_id: str, say: Say) -> JobDetails:
    """Wait until the job has ended. A cluster that does not answer for a while is no end."""
    import requests

    answered, silent = time.monotonic(), False
    while True:
        try:
            details = client.get_job_info(job_id)
            if details.status.is_terminal():
                return details
            answered, silent = time.monotonic(), False
        except (ConnectionError, requests.exceptions.RequestException, RuntimeError) as error:
            if not silent:
                say("the cluster does not answer; trying again")
                silent = True
            if time.monotonic() - answered > SILENCE_SECONDS:
                raise UserError(
                    f"the cluster has not answered for {SILENCE_SECONDS:.0f} s ({error}); the job {job_id} may still "
                    "run there: the same command attaches to it"
                ) from None
        time.sleep(LOOK_SECONDS)


def _exit_code(details: JobDetails, stopped: bool, say: Say) -> int:
    if stopped:
        return TERMINATED if terminated.is_set() else INTERRUPTED
    if details.driver_exit_code is not None:
        code = details.driver_exit_code
        return 128 - code if code < 0 else code  # ended by a signal
    if details.status == "SUCCEEDED":
        return DONE
    say(f"{details.submission_id} {details.status.lower()}: {details.message or 'stopped from elsewhere'}")
    return FAILED


class _Log:
    """Prints a job's log to standard output, in a thread. After a lost connection it continues where it was."""

    def __init__(self, client: JobSubmissionClient, job_id: str) -> None:
        self.client, self.job_id = client, job_id
        self.read = 0  # characters
        self.lines = LineWriter()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="log", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def finish(self) -> None:
        """Print what is left; the job has ended."""
        self.over.set()
        if self.thread.ident is not None:
            self.thread.join(LOG_SECONDS)
        self.lines.end()

    def _follow(self) -> None:
        import aiohttp

        while True:
            over = self.over.is_set()
            try:
                asyncio.run(self._print())
                return
            except (RuntimeError, OSError, aiohttp.ClientError):  # not there yet, or not reached
                if over:
                    return
            time.sleep(LOOK_SECONDS)

    async def _print(self) -> None:
        """The stream begins with the first line, whatever was printed before."""
        skip = self.read
        async for text in self.client.tail_job_logs(self.job_id):
            new = text[skip:]
            skip = max(0, skip - len(text))
            self.read += len(new)
            self.lines.write(new)
