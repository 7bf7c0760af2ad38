"""What trained networks are asked on the command line: arguments and options. It only parses, as `flows.cli` does."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object as the last output.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]


def generate(
    model: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, artifact, run or registered model that writes text.")
    ],
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="The beginning of the text.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="Prompts instead: one a line, or JSON lines.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="JSON lines (default: the terminal).")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", help="Tokens to write at most.")] = 128,
    temperature: Annotated[
        float | None, typer.Option(help="Sample tokens, from logits divided by this (default: the likeliest token).")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from this many of the likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the fewest tokens with this total probability.")
    ] = None,
    beams: Annotated[int, typer.Option(help="Number of texts that beam search follows.")] = 1,
    length_penalty: Annotated[
        float, typer.Option(help="With beams: log-probability is divided by length to this power.")
    ] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="Text to stop before; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same text for a prompt.")] = 0,
    batch: Annotated[int, typer.Option(help="Texts in a batch.")] = 16,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Continue prompts, or turn texts into others, with a trained decoder or encoder-decoder."""
    from flows.inference import generate as generation
    from training.inference.generation.decoding import Decoding

    decoding = Decoding(
        max_new_tokens, temperature, top_k, top_p, beams, length_penalty, stop=tuple(stop or ()), seed=seed
    )
    generation.generate(model, prompt, file, out, decoding, batch, device, json)


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder, artifact, run (RUN/JOB) or registered model: fine-tuned.")
    ],
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Rows such as it learned from.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="JSON lines (.jsonl) or Arrow (.arrow).")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Column to read, where it has another name; may be repeated.")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="table, squad, tokens or hub, where it is another one.")] = None,
    columns: Annotated[
        str | None, typer.Option(help='Columns of files without a header, as "a,b"; "" if they have one.')
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Answer the rows of files with a fine-tuned network: labels, numbers, choices, or parts of their contexts."""
    from flows.inference import predict as prediction

    prediction.predict(model, files, out, inputs or [], layout, columns, device, json)


def embed(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder, artifact, run (also RUN/JOB), registered model or package.")
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Texts, one a line (.txt), or rows with --column.")],
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help=".arrow or .parquet.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that is read (default: text).")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column that names rows (default: their numbers).")] = None,
    text: Annotated[bool, typer.Option("--text", help="Write the texts, too.")] = False,
    pooling: Annotated[
        str | None, typer.Option(help="mean, cls or last position (default: what the network's folder says).")
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Vectors of length 1 (default: likewise).")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Whose outputs to use: 0 is the embeddings.")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Most tokens of a text; what is longer is cut.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster and less exact.")] = "fp32",
    nearest: Annotated[int, typer.Option(min=0, metavar="K", help="Show the K nearest neighbours by cosine.")] = 0,
    queries: Annotated[str | None, typer.Option(metavar="FILE", help="Of these rows (default: of all).")] = None,
    neighbours: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the neighbours: .arrow or .parquet.")
    ] = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Turn texts into vectors, one each, and find nearest neighbours."""
    from flows.inference import embed as embedding
    from flows.inference.embedder import options_of

    asked = {"pooling": pooling, "normalize": normalize, "layer": layer, "length": length, "precision": precision}
    search = {"nearest": nearest, "queries": queries, "neighbours": neighbours}
    embedding.embed(
        model, file, out, options_of(column=column, id=id_, text=text, device=device, **asked, **search), json
    )


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder, artifact, run (also RUN/JOB), registered model or package.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="A new folder.")],
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
    json: JsonOption = False,
) -> None:
    """Write an encoder, also a fine-tuned one, for runtimes without PyTorch: network, tokenizer and labels."""
    from flows.inference import export as exporting

    exporting.export(model, out, to, json)
