"""Addresses in a recipe that this user's credentials, tokens or data would go to.

A recipe may be a stranger's, so it cannot choose by itself who gets them: such an address counts only if the
user names it outside of the recipe, too, by `--set` or in the environment. Services of the providers themselves
(`s3://bucket`, `gs://bucket`, `abfs://container@account.dfs.core.windows.net`), what is asked without credentials
(`gs://anonymous@bucket`) and files of this machine pass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from data_prep.errors import UserError
from data_prep.legible import masked
from pipeline.recipe.recipe import Experiment

RAY_ADDRESS = "placement.ray_address"
TRUSTED = "SESAME_TRUSTED_HOSTS"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "SESAME_STORE")

_URI = re.compile(r"(s3|gs|gcs|abfss?|hdfs|viewfs)://([^/?#]*)[^?]*(?:\?(.*))?", re.DOTALL | re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]*")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_AZURE = re.compile(r"[a-z0-9-]+\.(?:dfs|blob)\.core\.windows\.net|[a-z0-9-]+", re.IGNORECASE)
_OF_HADOOP = ("", "default")  # the cluster of this machine's own `core-site.xml`
_HARMLESS = {
    *("region", "allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open", "background_writes"),
    *("check_directory_existence_before_creation", "smart_defaults", "retry_limit_seconds", "project_id"),
    *("replication", "buffer_size", "default_block_size", "user"),
}
"""Options of pyarrow's file systems that do not say where to."""
_HOSTS = re.compile(r"endpoint_override|.*authority")
_SCHEMES = re.compile(r".*scheme")


class Receiver(NamedTuple):
    """Who would get credentials besides the provider that the scheme names."""

    hosts: list[str]
    """With a port where there is one; none where only how they are asked is chosen."""
    is_open: bool
    """Whether nothing is encrypted."""
    is_odd: bool
    """Whether there are options that we do not know."""
    said: str
    """What in the address says so."""


def check(recipe: Experiment, origin: Callable[[str, bool], str]) -> None:
    """UserError if only the recipe names who gets this user's credentials. origin: where a known key was set last."""
    for path, value in _texts(recipe.model_dump(mode="json"), ""):
        problem = _of_cluster(value) if path == RAY_ADDRESS else _of_file(value)
        if problem and not (where := origin(path, False)).startswith("--set "):
            raise UserError(f"{where}: found {masked(value)!r}; {problem}")


def _of_cluster(address: str) -> str:
    chosen = os.environ.get("RAY_ADDRESS")
    if chosen and address in ("auto", chosen):
        return ""
    return (
        "the cluster gets your Ray token and runs your code, so a recipe alone does not choose it: say "
        f"--set {RAY_ADDRESS}={address}, or RAY_ADDRESS={address} in the environment"
    )


def _of_file(uri: str) -> str:
    receiver = receiver_of(uri)
    if receiver is None or _is_trusted(receiver):
        return ""
    named = f"{TRUSTED}={','.join(receiver.hosts) or 'HOST'}; for S3, also AWS_ENDPOINT_URL"
    return (
        f"with {receiver.said} your credentials go where a recipe alone may not send them: give the address by --set, "
        f"or name its host outside of the recipe ({named})"
    )


def receiver_of(uri: str) -> Receiver | None:
    """Who gets the credentials that a URI is asked with, if it says so itself; None if its provider does."""
    match = _URI.fullmatch(uri)
    if match is None:
        return None
    scheme, place = match[1].lower(), unquote(match[2])
    user, _, name = place.rpartition("@")
    options = parse_qsl(match[3] or "", keep_blank_values=True)
    if scheme in ("gs", "gcs") and user == "anonymous":
        return None
    if scheme in ("hdfs", "viewfs"):
        is_own = name.partition(":")[0] in _OF_HADOOP
    else:
        is_own = (_AZURE if scheme.startswith("abfs") else _BUCKET).fullmatch(name) is not None
    hosts, said = ([], []) if is_own else ([name], [f"the host {name}"])
    is_open = is_odd = False
    for option, value in options:
        if option in _HARMLESS and (option != "region" or _REGION.fullmatch(value)):
            continue
        if _SCHEMES.fullmatch(option) and value == "https":
            continue
        said.append(masked(f"?{option}={value}").removeprefix("?"))
        if _HOSTS.fullmatch(option):
            hosts.append(value.rpartition("//")[2].strip("/"))
        elif _SCHEMES.fullmatch(option):
            is_open = True
        else:
            is_odd = True
    return Receiver(hosts, is_open, is_odd, " and ".join(said)) if said else None


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of nested values, and its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, inner in pairs:
            yield from _texts(inner, f"{path}.{name}" if path else str(name))


def _is_trusted(receiver: Receiver) -> bool:
    """Whether the environment names all of its hosts: with their scheme, if it names one."""
    trusted = {host for scheme, host in _trusted() if not (receiver.is_open and scheme == "https")}
    return bool(receiver.hosts) and trusted.issuperset(receiver.hosts) and not receiver.is_odd


def _trusted() -> Iterator[tuple[str, str]]:
    """(scheme or "", host) of all hosts that the environment lets credentials go to."""
    for name in os.environ.get(TRUSTED, "").split(","):
        if name := name.strip():
            yield "", name
    for variable in _ENDPOINTS:
        uri = os.environ.get(variable, "")
        parts = urlsplit(uri)
        if variable != "SESAME_STORE":
            yield parts.scheme, parts.netloc.rpartition("@")[2]
        elif own := receiver_of(uri):
            yield from (("http" if own.is_open else "https", host) for host in own.hosts)
