"""`sesame generate`: completions of prompts, or what an encoder-decoder makes of texts.

CHECKPOINT, prompts ─► completions ─► the terminal as they are written, or a file of JSON lines in the prompts' order
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, parsed_strictly, plain
from data_prep.sources.lines import lines_of
from flows.checkpoint import model_folder
from flows.show.console import new_console
from flows.show.outputs import check_output
from training.inference.generation.decoding import Decoding

JSON_LINES = (".jsonl", ".ndjson")
PROMPT, COMPLETION, ENDED = "prompt", "completion", "ended"


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what else its line of a file says, which is given back with its completion."""

    text: str
    row: dict[str, Any] = field(default_factory=dict)


def generate(
    checkpoint: str,
    prompt: str | None,
    file: str | None,
    out: str | None,
    decoding: Decoding,
    batch: int,
    device: str,
    as_json: bool,
) -> None:
    """Complete one prompt or those of a file. UserError for what cannot be completed, before anything is written."""
    if (prompt is None) == (file is None):
        raise UserError("give either a prompt or --file PROMPTS.")
    prompts = [Prompt(prompt)] if prompt is not None else read_prompts(Path(str(file)).expanduser())
    out_path = check_output(Path(out).expanduser(), [file] if file else []) if out is not None else None
    folder = model_folder(checkpoint)
    from training.distributed import check_device
    from training.inference.generation.generate import Generator
    from training.inference.language_model import open_language_model

    check_device(device)
    generator = Generator(open_language_model(folder, device), decoding, batch)
    rows = generator.prompt_ids([prompt_row.text for prompt_row in prompts])
    between = "\n" if generator.model.architecture.encoder_decoder else ""
    shown = _Shown(new_console(), prompts, between) if out_path is None and not as_json else None
    stream = shown.add if shown and len(prompts) == 1 and decoding.beams == 1 else None
    began, completions = time.perf_counter(), {}
    for completion in generator.write(rows, stream):
        completions[completion.prompt] = completion
        if shown:
            shown.end(completion.prompt, completion.text, completion.ended)
    seconds = time.perf_counter() - began
    tokens = sum(len(completion.ids) for completion in completions.values())
    lines = [
        {
            PROMPT: prompt_row.text,
            **prompt_row.row,
            COMPLETION: completions[number].text,
            ENDED: completions[number].ended,
        }
        for number, prompt_row in enumerate(prompts)
    ]
    summary = {"prompts": len(prompts), "tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}
    if out_path is not None:
        _write(out_path, lines)
    if as_json:
        print(json.dumps({**summary, **({"out": out} if out else {"completions": lines})}))
    else:
        where = f"{out}: " if out else ""
        new_console(stderr=True).print(
            Text(f"{where}{len(prompts):,} texts, {tokens:,} tokens, {tokens / seconds:,.0f} a second", "dim")
        )


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file, one a line: texts, or JSON lines of texts or of objects with `prompt`.

    UserError, with the line, for what is no prompt: a blank line, too, for it may be one by mistake.
    """
    try:
        plain(path)
        prompts = [_prompt(path, number, line) for number, line in lines_of(path)]
    except UnfitError as error:
        raise UserError(f"--file {path}: {error}; name a file of prompts in UTF-8, one a line.") from None
    if not prompts:
        raise UserError(f"--file {path}: is empty; write one prompt a line.")
    return prompts


def _prompt(path: Path, number: int, line: str) -> Prompt:
    where = f"--file {path} line {number}"
    row: dict[str, Any] = {}
    text: Any = line
    if path.name.lower().removesuffix(".gz").endswith(JSON_LINES):
        try:
            value = parsed_strictly(line)
        except UnfitError as error:
            raise UserError(f"{where}: {error}; write a text or an object with {PROMPT!r}.") from None
        row = dict(value) if isinstance(value, dict) else {}
        text = row.pop(PROMPT, None) if isinstance(value, dict) else value
        if taken := sorted({COMPLETION, ENDED} & row.keys()):
            raise UserError(f"{where}: has {taken[0]!r} already, which is what is written beside it; rename it.")
    if not isinstance(text, str) or not text.strip():
        shown = "nothing" if text is None or isinstance(text, str) else json.dumps(text)[:60]
        raise UserError(f"{where}: holds {shown} where a prompt should be; write a text, or take the line out.")
    return Prompt(text, row)


class _Shown:
    """Completions on a terminal: one as it is written, several in the order of their prompts.

    between: what parts a prompt from what is written: nothing where it is continued, or else a line end.
    """

    def __init__(self, console: Any, prompts: Sequence[Prompt], between: str) -> None:
        self.console, self.prompts, self.between = console, prompts, between
        self.waiting: dict[int, tuple[str, str]] = {}
        self.next = 0
        self.written: str | None = None  # of the next one; None: nothing, nor its prompt

    def add(self, number: int, text: str) -> None:
        """Print what is new of a text, after its prompt."""
        if self.written is None:
            line = Text(f"{number + 1}. " if len(self.prompts) > 1 else "", "dim")
            self._print(line.append(self.prompts[number].text, "bold").append(self.between))
            self.written = ""
        if text.startswith(self.written):
            self._print(Text(text[len(self.written) :]))
            self.written = text
        sys.stdout.flush()

    def end(self, number: int, text: str, ended: str) -> None:
        self.waiting[number] = (text, ended)
        while self.next in self.waiting:
            text, ended = self.waiting.pop(self.next)
            self.add(self.next, text)
            if self.written != text:  # a tokenizer may spell the beginning otherwise when more follows
                self._print(Text(f"\n{text}"))
            self.console.print(Text(f" ({ended})" if ended != "eos" else "", "dim"))
            self.next, self.written = self.next + 1, None

    def _print(self, text: Text) -> None:
        self.console.print(text, end="", soft_wrap=True)


def _write(out: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines completely or not at all."""
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
