"""Layouts of well-known tables, so that their files can be read as published.

    kdd99                  KDD Cup 99: kddcup.data[_10_percent], corrected; no header, label ends in a full stop
    nsl-kdd                NSL-KDD: KDDTrain+.txt, KDDTest+.txt; the same, with a difficulty column, which is dropped
    creditcard             credit-card fraud of the ULB: creditcard.csv
    paysim                 PaySim: payments of a simulated mobile money service; payer and payee are dropped
    wdbc                   Breast Cancer Wisconsin (Diagnostic) of UCI: wdbc.data; no header, patient id dropped
    sklearn-breast-cancer  the same as scikit-learn ships it

Sources: the `.names` files next to the data of KDD Cup 99 and of UCI; the READMEs of the others.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data_prep.corpus.schema import ColumnKind

_KDD = (
    *("duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent"),
    *("hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root"),
    *("num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login"),
    *("is_guest_login", "count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate"),
    *("same_srv_rate", "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count"),
    *("dst_host_same_srv_rate", "dst_host_diff_srv_rate", "dst_host_same_src_port_rate"),
    *("dst_host_srv_diff_host_rate", "dst_host_serror_rate", "dst_host_srv_serror_rate", "dst_host_rerror_rate"),
    "dst_host_srv_rerror_rate",
)
_KDD_KINDS: dict[str, ColumnKind] = {
    name: "categorical" if name in ("protocol_type", "service", "flag") else "numeric" for name in _KDD
}
_CELL = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points"),
    *("symmetry", "fractal dimension"),
)
_CELLS = tuple(f"{how} {what}" for how in ("mean", "standard error of", "worst") for what in _CELL)
_PAYSIM = (
    *("step", "type", "amount", "nameOrig", "oldbalanceOrg", "newbalanceOrig", "nameDest", "oldbalanceDest"),
    *("newbalanceDest", "isFraud", "isFlaggedFraud"),
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Format of a published table: the names of its columns, and which of them is the label."""

    columns: tuple[str, ...]
    target: str
    normal: tuple[str, ...]
    header: bool = False
    """Whether the first line contains the column names."""
    skip: int = 0
    """Number of lines to skip before the first row."""
    drop: frozenset[str] = frozenset()
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label names by code."""
    label_ends: str = ""
    """Suffix to remove from each label."""
    files: tuple[str, ...] = ()
    """Names of further files to read from a folder, besides those of known formats; without compression suffixes."""

    def names_of(self, first: Sequence[str]) -> list[str]:
        """Names of the columns of a file without a header, by the values of its first row.

        Rows may be as published, or without their label, or without the columns that are dropped, or without both. Of
        two that are as long, the one is meant whose numbers and label are where they belong.
        """
        without = [set[str](), {self.target}, set(self.drop), {self.target, *self.drop}]
        choices = [[name for name in self.columns if name not in gone] for gone in without]
        fitting = [names for names in choices if len(names) == len(first)]
        return min(fitting or choices, key=lambda names: self._misplaced(names, first))

    def _misplaced(self, names: Sequence[str], first: Sequence[str]) -> int:
        """Number of values that do not fit their columns."""
        count = 0
        for name, value in zip(names, first, strict=False):
            is_number = _NUMBER.fullmatch(value) is not None
            if name == self.target:
                count += value not in self.labels if self.labels else is_number
            else:
                count += not is_number and self.kinds.get(name) != "categorical"
        return count

    def reads(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name.rpartition("/")[2], pattern) for pattern in self.files)


LAYOUTS: dict[str, Layout] = {
    "kdd99": Layout(
        (*_KDD, "label"),
        target="label",
        normal=("normal",),
        kinds=_KDD_KINDS,
        label_ends=".",
        files=("kddcup.data", "kddcup.data_10_percent", "corrected"),
    ),
    "nsl-kdd": Layout(
        (*_KDD, "label", "difficulty"),
        target="label",
        normal=("normal",),
        drop=frozenset({"difficulty"}),
        kinds=_KDD_KINDS,
        files=("KDDTrain+*.txt", "KDDTest*.txt"),
    ),
    "creditcard": Layout(
        ("Time", *(f"V{number}" for number in range(1, 29)), "Amount", "Class"),
        target="Class",
        normal=("0",),
        header=True,
    ),
    "paysim": Layout(
        _PAYSIM,
        target="isFraud",
        normal=("0",),
        header=True,
        drop=frozenset({"nameOrig", "nameDest", "isFlaggedFraud"}),  # the last is the simulator's own alarm
        kinds={"type": "categorical"},
    ),
    "wdbc": Layout(
        ("id", "diagnosis", *_CELLS),
        target="diagnosis",
        normal=("benign",),
        drop=frozenset({"id"}),
        labels={"M": "malignant", "B": "benign"},
        files=("wdbc.data",),
    ),
    "sklearn-breast-cancer": Layout(
        (*_CELLS, "diagnosis"),
        target="diagnosis",
        normal=("benign",),
        skip=1,
        labels={"0": "malignant", "1": "benign"},
    ),
}
