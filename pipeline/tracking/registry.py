"""Registered encoders and fine-tuned networks, and the gate for the alias "champion".

A version is a model that serves itself (`served_encoder.py`: texts in, embeddings out; `served_fine_tuned.py`: rows in,
answers out; the weights beside it, no pickle), with its score, the digest of the evaluation that gave it, and the
artifact it came from. Before it is registered it must answer its own example from the saved files.

`pipeline.gate` decides which version is the champion, by scores of the same evaluation; the others are challengers, and
the newest of them has that alias. The decision and its numbers are tags of the version.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from pipeline.fingerprint import canonical, digest
from pipeline.gate import CHALLENGER, CHAMPION, ENCODER, FINE_TUNED, Candidate, Direction, Score, decide
from pipeline.tracking.metric_name import metric_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.pyfunc import PyFuncModel

    from pipeline.tracking.tracking import TrackedRun

EXAMPLE = ["The quick brown fox jumps over the lazy dog.", "A second text."]
REQUIREMENTS = ("mlflow", "safetensors", "tokenizers", "torch", "transformers")
"""What serving needs; pinned to the versions that the model was registered with."""
CODE = {
    ENCODER: Path(__file__).with_name("served_encoder.py"),
    FINE_TUNED: Path(__file__).with_name("served_fine_tuned.py"),
}
FOLDER = {ENCODER: "encoder", FINE_TUNED: "network"}  # what the code calls the folder that it opens
_log = logging.getLogger(__name__)
_NAME = re.compile(r"\w[\w .-]{0,199}")


@dataclass(frozen=True)
class RegistrationRequest:
    """Everything registration needs besides the files. Made of JSON values, because it waits in a spool."""

    id: str
    name: str
    score: float
    spread: float | None
    direction: Direction
    score_name: str
    evaluation: str
    """Digest of what identifies the evaluation."""
    evaluated: str
    """The same in full, as canonical text."""
    artifact: str
    metrics: dict[str, float]
    promote: bool
    time: int
    about: str = ""
    """Describes the version, Markdown."""
    about_model: str = ""
    """Describes the registered model."""
    step: int = 0
    kind: str = ENCODER
    """What it is: a key of `CODE`."""


@dataclass(frozen=True)
class Registration:
    """A model on its way to the registry."""

    run: TrackedRun = field(repr=False)
    id: str

    def decision(self) -> str | None:
        """One sentence: what was registered and whether it became the champion; None until it was sent."""
        return self.run.tracker.outcome(self.id)


@dataclass(frozen=True)
class Version:
    """A registered version, as its tags describe it."""

    name: str
    version: str
    score: Score | None
    artifact: str
    run: str
    """MLflow's id of the run that registered it."""


def register(
    run: TrackedRun,
    export: Path,
    name: str,
    candidate: Candidate,
    metrics: Mapping[str, float],
    artifact: str = "",
    promote: bool = True,
    about: str = "",
    about_model: str = "",
) -> Registration:
    """Queue `export` as a new version of `name`; returns at once.

    It is the Hugging Face folder of an encoder (with its tokenizer), or that of a fine-tuned network
    (`pipeline.downstream.fine_tune.exported`).

    The candidate's score is what the gate compares. `metrics` are kept with the version; `artifact` is the key of what
    `export` belongs to; `about` and `about_model` describe the version and the model, in Markdown. The folder must stay
    until it was sent. Raises ValueError for a score that is missing or not finite, and TypeError for an
    evaluation with no canonical form.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a model: letters, digits, '_', '.', '-' and spaces are allowed")
    if candidate.score is None or not math.isfinite(candidate.score):
        raise ValueError(f"the score {candidate.measure!r} of {name} must be a finite number, found {candidate.score}")
    described = dict(candidate.evaluation)
    ask = run.tracker.new_id()
    request = RegistrationRequest(
        id=ask,
        name=name,
        score=float(candidate.score),
        spread=candidate.spread,
        direction=candidate.direction,
        score_name=candidate.measure,
        evaluation=digest(described),
        evaluated=canonical(described),
        artifact=artifact,
        metrics={metric_name(key): float(value) for key, value in metrics.items() if math.isfinite(value)},
        promote=promote,
        time=run.tracker.now(),
        about=about,
        about_model=about_model,
        kind=candidate.kind,
    )
    run.tracker.add(
        {"op": "register", "id": run.id, "ask": ask, "export": str(export.absolute()), "request": asdict(request)}
    )
    return Registration(run, ask)


def promote(client: MlflowClient, name: str, version: str, score: Score) -> str:
    """Make `version` the champion of `name` if the gate allows it; returns the decision and its reason.

    Its score is stored with the version in any case: a champion that is scored again keeps its place.
    """
    for tag, value in _tags_of(score).items():
        client.set_model_version_tag(name, version, tag, value)
    champion, subject = _champion(client, name), f"version {version} of {name}"
    if champion is not None and champion.version == version and math.isfinite(score.value):
        sentence = f"{subject} is the champion already"
    else:
        called = f"version {champion.version}, the champion" if champion else ""
        decision = decide(score, champion and champion.score, called, held=champion is not None)
        place = CHAMPION if decision.takes_over else CHALLENGER
        if decision.takes_over and champion is None:
            sentence = f"{subject} is the champion with {score.text}: {decision.reason}"
        else:
            sentence = f"{subject} {'is the' if decision.takes_over else 'stays a'} {place}: {decision.reason}"
        _move(client, name, place, version)
    client.set_model_version_tag(name, version, "sesame.decision", sentence)
    return sentence


def _move(client: MlflowClient, name: str, place: str, version: str) -> None:
    """Give a version an alias; a new champion is no longer the challenger."""
    client.set_registered_model_alias(name, place, version)
    if place == CHAMPION:
        challenger = _with_alias(client, name, CHALLENGER)
        if challenger is not None and challenger.version == version:
            client.delete_registered_model_alias(name, CHALLENGER)


def _tags_of(score: Score) -> dict[str, str]:
    return {
        "sesame.score": repr(score.value),
        "sesame.score.spread": "" if score.spread is None else repr(score.spread),
        "sesame.score.direction": score.direction,
        "sesame.evaluation": score.evaluation,
    }


class Registry:
    """The registry of a home or of a server, to read it or promote by hand."""

    def __init__(self, home: Path, uri: str | None = None) -> None:
        from pipeline.tracking.mlflow_server import Server

        self._server = Server(home, uri)

    def champion(self, name: str) -> Version | None:
        return _champion(self._server.client, name)

    def with_alias(self, name: str, alias: str) -> Version | None:
        return _with_alias(self._server.client, name, alias)

    def version(self, name: str, version: str) -> Version:
        return _version(self._server.client.get_model_version(name, version))

    def promote(self, name: str, version: str, score: Score) -> str:
        """See `promote`."""
        with self._server.lock(CHAMPION):
            return promote(self._server.client, name, version, score)

    def fetch(self, version: Version) -> Path:
        """The folder of a version's files, copied here if they are elsewhere."""
        place = self._server.client.get_model_version_download_uri(version.name, version.version)
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact_uri=place, tracking_uri=self._server.uri))

    def load(self, name: str) -> PyFuncModel:
        """The champion of `name`: `predict` takes a list of texts and gives a list of embeddings."""
        champion = self.champion(name)
        if champion is None:
            raise UserError(f"{name} has no champion in {self._server.uri}: register one, or move the alias by hand")
        from mlflow.pyfunc import load_model

        return load_model(str(self.fetch(champion)))


# -- in the sender ----------------------------------------------------------------------------------------------------


def carry_out(client: MlflowClient, run: str, export: Path, request: RegistrationRequest, scratch: Path) -> str:
    """Register a version, unless an earlier try did, and decide. Raises for a model that cannot serve."""
    asked = f"tags.`sesame.id` = '{request.id}'"
    versions = client.search_model_versions(f"name = '{request.name}' and {asked}")
    if versions:
        version = versions[0]
    else:
        version = _create_version(client, run, export, request, scratch, asked)
    if request.promote and "sesame.decision" not in version.tags:
        score = Score(request.score, request.evaluation, request.direction, request.spread)
        return promote(client, request.name, str(version.version), score)
    return version.tags.get("sesame.decision", f"version {version.version} of {request.name} is registered")


def _create_version(
    client: MlflowClient, run: str, export: Path, request: RegistrationRequest, scratch: Path, asked: str
) -> Any:
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    experiment, kind = client.get_run(run).info.experiment_id, request.kind
    models = client.search_logged_models([experiment], asked, max_results=1)
    tags = {"sesame.id": request.id, "sesame.artifact": request.artifact}
    model = models[0] if models else client.create_logged_model(experiment, kind, run, tags, model_type=kind)
    location, model_id = model.artifact_location, model.model_id
    flavour = Model(artifact_path=location, run_id=run, model_uuid=model_id, model_id=model_id)
    saved = scratch / "model"
    save(export, saved, flavour, kind)
    client.log_model_artifacts(model_id, str(saved))
    client.finalize_logged_model(model_id, "READY")
    outputs = client.get_run(run).outputs
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run, [LoggedModelOutput(model_id, request.step)])
    named = request.metrics.items()
    metrics = [Metric(k, v, request.time, request.step, model_id=model_id, run_id=run) for k, v in named]
    client.log_batch(run, metrics=metrics)
    _ensure_name(client, request.name, request.about_model)
    tags |= {
        "sesame.score": repr(request.score),
        "sesame.score.name": request.score_name,
        "sesame.evaluation": request.evaluation,
        "sesame.evaluation.text": request.evaluated,
    }
    # not models:/ID, which MLflow would look up on its own default server
    about = request.about or None
    return client.create_model_version(request.name, location, run, tags, description=about, model_id=model_id)


def save(export: Path, folder: Path, model: Any = None, kind: str = ENCODER) -> None:
    """Write a model that serves what is in `export`, and let it answer its example from the files just written."""
    from mlflow.pyfunc import load_model, save_model

    example, more = _example(export, kind)
    if kind == ENCODER:
        more["model_config"] = embedding_settings(export)
    save_model(
        str(folder),
        python_model=str(CODE[kind]),
        artifacts={FOLDER[kind]: str(export)},
        input_example=example,
        pip_requirements=requirements(),
        mlflow_model=model,
        **more,
    )
    answer = load_model(str(folder)).predict(example)
    if kind == ENCODER and not all(math.isfinite(value) for vector in answer for value in vector):
        raise ValueError(f"{export} does not serve: its example gives embeddings that are not finite")
    if len(answer) != len(example):
        raise ValueError(f"{export} does not serve: its example gives {len(answer)} answers, not {len(example)}")
    for cache in list(folder.rglob("__pycache__")):  # of the code that was just read
        shutil.rmtree(cache)


def embedding_settings(export: Path) -> dict[str, Any]:
    """How a served encoder makes vectors, as `sesame embed` does: pooling, normalize, length (tokens, special ones
    included; None: any), and ids that begin and end texts where the tokenizer itself puts none around them."""
    from pipeline.downstream.fine_tune.heads import Shape, tokenizer_of
    from training.inference.use import positions_of, use_of

    use = use_of(export)
    for other in use.others:
        _log.warning("%s also names %s, which is not computed where it is served", export, other)
    own, framed = (tokenizer_of(Shape("class"), export, framed=framed) for framed in (False, use.pooling == "last"))
    begin: list[int] = []
    end: list[int] = []
    if framed.num_special_tokens_to_add(False) > own.num_special_tokens_to_add(False):
        encoding = framed.encode("a")
        places = [place for place, of in enumerate(encoding.sequence_ids) if of is not None]
        begin, end = encoding.ids[: places[0]], encoding.ids[places[-1] + 1 :]
    length = use.most_tokens(positions_of(export))
    return {"pooling": use.pooling, "normalize": use.normalize, "length": length, "begin": begin, "end": end}


def _example(export: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    """What a model answers for example, and what says what it takes and gives, where its code does not."""
    if kind == ENCODER:
        return EXAMPLE, {}
    import pandas as pd
    from mlflow.models import infer_signature

    from pipeline.downstream.fine_tune.exported import open_fine_tuned
    from pipeline.downstream.fine_tune.serving import answers, example_of

    network = open_fine_tuned(export)
    rows = example_of(network)
    table = pd.DataFrame(rows)
    return table, {"signature": infer_signature(table, pd.DataFrame(answers(network, rows)))}


def requirements() -> list[str]:
    """Pinned to installed versions, without local parts (`+cpu`) that no index has."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _ensure_name(client: MlflowClient, name: str, about: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if about:
        client.update_registered_model(name, about)


def _champion(client: MlflowClient, name: str) -> Version | None:
    return _with_alias(client, name, CHAMPION)


def _with_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # no such name or alias
            raise
        return None


def _version(version: Any) -> Version:
    tags = version.tags
    score, spread = tags.get("sesame.score"), tags.get("sesame.score.spread")
    return Version(
        name=version.name,
        version=str(version.version),
        score=None
        if score is None
        else Score(
            float(score),
            tags.get("sesame.evaluation", ""),
            tags.get("sesame.score.direction", "higher"),
            float(spread) if spread else None,
        ),
        artifact=tags.get("sesame.artifact", ""),
        run=version.run_id or "",
    )
