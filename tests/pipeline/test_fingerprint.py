from __future__ import annotations

import enum
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fingerprint import canonical, digest, file_digest

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def reordered(value):
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return tuple(reordered(item) for item in value)
    return value


@given(VALUES)
def test_the_order_of_keys_and_tuple_or_list_do_not_matter(value):
    assert canonical(reordered(value)) == canonical(value)


@given(VALUES, VALUES)
def test_different_values_have_different_texts(first, second):
    def typed(value):  # 1, 1.0 and True are equal in Python and different here; so are 0.0 and -0.0
        if isinstance(value, dict):
            return {name: typed(item) for name, item in value.items()}
        if isinstance(value, list):
            return [typed(item) for item in value]
        return type(value).__name__, repr(value)

    assert (canonical(first) == canonical(second)) == (typed(first) == typed(second))


def test_golden_texts():
    assert canonical({"b": (1, 1.0), "a": [True, None, "é\n"]}) == '{"a":[true,null,"\\u00e9\\n"],"b":[1,1.0]}'
    assert canonical([1e-4, 0.1, 1e22, -0.0, 5e-324]) == "[0.0001,0.1,1e+22,-0.0,5e-324]"
    assert canonical(2**70) == "1180591620717411303424"
    assert digest({"lr": 1e-4}) == "7564cd123ad2bf36df97eed44205a668"


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"train": {"lr": float("nan")}}, "train.lr"),
        ({"train": {"lr": float("inf")}}, "train.lr"),
        ({"a": [0, Path("x")]}, "a.1"),
        ({"a": {1: 2}}, "a: key 1"),
        ({"a": {None: 2}}, "a: key None"),
        ({"a": np.float64(1.0)}, "a: numpy"),
        ({"a": np.int64(1)}, "a: numpy"),
        ({"a": {"b": Colour.RED}}, r"a\.b: .*Colour"),
        ({"a": {1, 2}}, "a: builtins.set"),
        ({"a": b"x"}, "a: builtins.bytes"),
        (object(), "the value: builtins.object"),
    ],
)
def test_what_has_no_canonical_form_is_named(value, path):
    with pytest.raises(TypeError, match=path):
        canonical(value)


def test_a_value_that_contains_itself_is_refused():
    value: dict = {"a": []}
    value["a"].append(value)
    with pytest.raises(TypeError, match=r"a\.0: contains itself"):
        canonical(value)
    shared = [1]
    assert canonical([shared, shared]) == "[[1],[1]]"


def test_the_digest_does_not_depend_on_the_process(tmp_path):
    code = "from pipeline.fingerprint import digest; print(digest({'x': 'y', 'a': {'c': 0.1, 'b': [1]}}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {digest({"a": {"b": [1], "c": 0.1}, "x": "y"})}


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_digested_whole(tmp_path, size):
    data = bytes(index * 31 % 251 for index in range(size))
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == hashlib.blake2b(data, digest_size=16).hexdigest()
