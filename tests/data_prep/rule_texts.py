"""Texts that rules are tried on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from data_prep.text.clean import CleanConfig
from data_prep.text.rules.rules import Rules

PROSE = (
    "The senate met in the old hall and heard a long report on roads, canals and schools. Few members had read it, "
    "yet all of them spoke. A farmer from the valley asked whether bridges would be built before winter. Nobody could "
    "say. When the lamps were lit, somebody opened a window to let out smoke, and snow blew across the papers. The "
    "clerk gathered what he could. They have met every spring since then, with better lamps and shorter reports, but "
    "that first evening is still what people remember most."
)
GERMAN = "Der Senat trat in der alten Halle zusammen und hörte einen langen Bericht über Straßen und Schulen."
LINE = "This line has exactly six words."
QUESTION = "Which river flows through the capital of the country that lies west of Germany and north of Spain?"

PAGE = st.lists(
    st.lists(
        st.sampled_from(["snow", "fell", "all", "night", "[1]", "[", "]", "[citation needed]", ".", "lorem", "ipsum"]),
        max_size=9,
    ).map(" ".join)
    | st.sampled_from([LINE, "Use cookies if you like to.", "A line which does not end", ""]),
    max_size=9,
).map("\n".join)

MASKED = [
    ("Write to jane.doe+x@mail.example.co.uk, or müller@web.de.", "Write to <email>, or <email>."),
    ("联系我abc@qq.com谢谢", "联系我<email>谢谢"),
    ("a@b is none, @home is none, x@y.z is none", None),
    ("Call (415) 555-2671 or 415-555-2671 or +44 20 7946 0958.", "Call <phone> or <phone> or <phone>."),
    ("Ring\n+49 30 123456\nnow", "Ring\n<phone>\nnow"),
    ("Visa 4111 1111 1111 1111 12/27", "Visa <card> 12/27"),
    ("4111-1111-1111-1111, 4111111111111111", "<card>, <card>"),
    ("In 2020 4111 1111 1111 1111 was stolen", "In 2020 <card> was stolen"),
    ("3782 822463 10005 and 378282246310005", "<card> and <card>"),
    ("5555555555554444 6011111111111117", "<card> <card>"),
    ("3530111333300000 30569309025904 2223003122003222", "<card> <card> <card>"),
    ("4222222222222 and 6304000000000000 and 6205500000000000004", "<card> and <card> and <card>"),
    ("4111 1111 1111 1112", None),  # a wrong check digit
    ("4111-1111 1111-1111", None),  # two kinds of separators
    ("41 11 11 11 11 11 11 11", None),  # not as cards are grouped
    ("94111111111111111", None),  # no issuer
    ("0.4111111111111111 and x4111111111111111", None),
    ("2012-05-12, 12/05/2012, 1990-1995, 1809-02-12T12:30:45", None),
    ("1990 1991 1992 1993 1994 1995 1996 1997 1998 1999 2000", None),
    ("ISBN 978-0-306-40615-7, ISBN 0-306-40615-2, 9780306406157", None),
    ("$1,000,000,000, 3.14159265358979, 8336817 people, pp. 123-145", None),
    ("Sent from 192.168.0.1. To 255.255.255.255:80", "Sent from <ip>. To <ip>:80"),
    ("256.1.1.1, 1.2.3, 1.2.3.4.5, .1.2.3", None),
    ("2001:db8::8a2e:370:7334 or FE80:0:0:0:0:0:0:1:", "<ip> or <ip>:"),
    ("at 12:30:45, std::vector, ab::cd, ::1, 1:2, a:b:c:1", None),
]

PERSONAL = st.lists(
    st.sampled_from([text for text, _ in MASKED] + ["a@b.org", "@", ".com", "4111", "415", "555", "2671", "+1", "::1"])
    | st.text("0123456789 -.:@ab+()", max_size=20),
    max_size=6,
).flatmap(lambda parts: st.sampled_from(["", " ", "\n", "-", "."]).map(lambda glue: glue.join(parts)))


def make(split_as: str = "en", **rules: Any) -> Rules:
    return Rules(CleanConfig.model_validate({"language": split_as, "rules": rules}))


def different(count: int, length: int = 5) -> list[str]:
    """Words of one length, all different."""
    return [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}".ljust(length, "x") for i in range(count)]


def write_jsonl(path: Path, *texts: str, field: str = "text") -> dict[str, Any]:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return {"path": str(path), "text_field": field}
