"""Commands on what the store holds: examples and numbers of artifacts, whether they are whole, what may go."""

from __future__ import annotations

import json
import sys

from data_prep.errors import UserError
from flows.exit_codes import FAILED, usage
from flows.show.console import new_console, say
from pipeline.home import Home

out = new_console()


def inspect(artifact: str, rows: int, start: int, split: str, recipe: str | None, epoch: int) -> None:
    from flows.show import inspect as shown

    store = Home.find().store()
    chosen = store.resolve(artifact)
    inputs = {role: store.get(entry["key"]) for role, entry in chosen.manifest["inputs"].items()}
    reading = shown.of_newest_run(chosen, store)
    if recipe is not None:
        from pipeline.recipe.load import load
        from pipeline.recipe.recipe import Recipe

        with usage():
            loaded = load(recipe)
        kind = chosen.config.get("kind")
        if not isinstance(loaded, Recipe):
            raise UserError(f"{recipe} corrupts nothing: it pretrains no network; name a recipe that does.")
        if kind != loaded.data.kind:
            raise UserError(f"{recipe} is for {loaded.data.kind}, and {chosen.key} holds {kind or chosen.stage}.")
        reading = shown.Reading.of_recipe(loaded)
    folders = {role: parent.path for role, parent in inputs.items() if parent is not None}
    shown.inspect(
        chosen,
        rows,
        out,
        split,
        start,
        reading=reading,
        preprocessor=folders.get("preprocessor"),
        corpus=folders.get("corpus"),
        epoch=epoch,
    )


def stats(artifact: str, split: str, as_json: bool) -> None:
    from flows.show import stats as counted

    store = Home.find().store()
    chosen = store.resolve(artifact)
    inputs = {role: store.get(entry["key"]) for role, entry in chosen.manifest["inputs"].items()}
    values = counted.gather(chosen, inputs.get("preprocessor"), inputs.get("corpus"))
    if as_json:
        print(json.dumps(values))
    else:
        counted.show(chosen, values, out, split)


def verify(artifact: str) -> None:
    store = Home.find().store()
    stored = store.resolve(artifact)
    problems = store.verify(stored)
    for problem in problems:
        say(f"{problem}; delete the artifact {stored.key} and run again")
    if problems:
        sys.exit(FAILED)
    out.print(f"{stored.key}: {len(stored.manifest['files'])} files, {stored.size:,} bytes, all as committed")


def gc(dry_run: bool, days: float) -> None:
    from data_prep.corpus import unit_cache
    from pipeline.store.gc import Garbage

    home = Home.find()
    garbage = list(home.store().gc(dry_run, days * 86400))
    for path, size in unit_cache.collect(home.downloads / unit_cache.FOLDER, days * 86400, dry_run):
        garbage.append(Garbage(str(path), "prepared data that no run asked for", size))
    for item in garbage:
        out.print(f"{item.where}  {item.reason}, {item.size:,} bytes", soft_wrap=True)
    word = "would free" if dry_run else "freed"
    out.print(f"{word} {sum(item.size for item in garbage):,} bytes in {len(garbage)} places")
