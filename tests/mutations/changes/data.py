"""Changes of what data becomes: texts, tables, shards and their order."""

from __future__ import annotations

from tests.mutations.runner import Change

DATA = "tests/data_prep"

CHANGES = [
    Change(
        "spans that touch have fates of their own",
        "data_prep/corruptions/masked_spans.py",
        "decides = index[first][np.cumsum(first) - 1] if",
        "decides = index if",
        (f"{DATA}/corruptions/test_masked_spans.py::test_spans_begin_with_words_and_touching_spans_share_a_fate",),
    ),
    Change(
        "the budget of spans is rounded down",
        "data_prep/corruptions/masked_spans.py",
        "left = rounded_up(self.config.rate, size)",
        "left = np.floor(self.config.rate * size).astype(np.int64)",
        (f"{DATA}/corruptions/test_masked_spans.py::test_the_budget_is_exact_and_rounded_up",),
    ),
    Change(
        "words of another sentence belong to a phrase",
        "data_prep/tokens/phrases.py",
        "joined[:-1] = (sentence[1:] == sentence[:-1]) & ",
        "joined[:-1] = ",
        (f"{DATA}/tokens/test_phrases.py::test_they_are_those_of_a_plain_count",),
    ),
    Change(
        "slots that are left go to the smallest remainders",
        "data_prep/shards/order.py",
        'by_remainder = np.argsort(np.where(free, quota - share, np.inf), kind="stable")',
        'by_remainder = np.argsort(np.where(free, share - quota, np.inf), kind="stable")',
        (f"{DATA}/shards/test_order.py::test_slots_that_are_left_go_to_the_largest_remainders",),
    ),
    Change(
        "bytes behind a shard are overlooked",
        "data_prep/shards/reader.py",
        'if (size := path.stat().st_size) != shard["bytes"]:',
        'if (size := path.stat().st_size) < shard["bytes"]:',
        (f"{DATA}/shards/test_format.py::test_a_file_that_has_grown_is_named",),
    ),
    Change(
        "a text that rules made too short is kept",
        "data_prep/text/ingest/units.py",
        "if outcome.text is None or len(outcome.text) < config.min_characters:",
        "if outcome.text is None:",
        (f"{DATA}/text/ingest/test_units.py::test_what_rules_leave_must_be_long_enough_too",),
    ),
    Change(
        "near duplicates at the threshold are kept",
        "data_prep/text/near_duplicates.py",
        "return pairs[np.concatenate([np.empty(0), *agree]) >= threshold]",
        "return pairs[np.concatenate([np.empty(0), *agree]) > threshold]",
        (f"{DATA}/text/test_near_duplicates.py::test_the_threshold_itself_is_alike_enough",),
    ),
    Change(
        "personal data is masked in one pass",
        "data_prep/text/rules/personal.py",
        "                    has_changed = True",
        "                    has_changed = False",
        (f"{DATA}/text/rules/test_personal.py::test_what_a_mask_frees_is_masked_too",),
    ),
    Change(
        "names run into each other in the keys of draws",
        "data_prep/rng.py",
        'digest.update(len(encoded).to_bytes(8, "little") + encoded)',
        "digest.update(encoded)",
        (f"{DATA}/test_rng.py::test_parts_of_a_key_are_kept_apart",),
    ),
    Change(
        "a shard's tail is not checked",
        "data_prep/shards/reader.py",
        '            self._check(number, parts[-1], "tail", data)\n',
        "",
        (f"{DATA}/shards/test_format.py::test_every_flipped_byte_is_named",),
    ),
    Change(
        "shares of groups are shares of rows",
        "data_prep/corpus/decide.py",
        "    if grouped:\n",
        "    if False:\n",
        (f"{DATA}/corpus/test_decide.py::test_groups_are_whole_and_their_shares_are_of_groups",),
    ),
    Change(
        "copies count where rows are held out",
        "data_prep/corpus/decide.py",
        "validation, test = shares(int(is_divided.sum()), split)",
        "validation, test = shares(len(is_divided), split)",
        (f"{DATA}/corpus/test_decide.py::test_rows_are_held_out_by_the_share_of_those_that_are_kept",),
    ),
    Change(
        "shards of other columns are joined",
        "data_prep/shards/writer.py",
        "for index in indices}) > 1:",
        "for index in indices}) > 2:",
        (f"{DATA}/shards/test_format.py::test_shards_of_other_columns_are_not_joined",),
    ),
    Change(
        "what was used last leaves the cache",
        "data_prep/shards/remote.py",
        "for _, size, path in sorted(files):",
        "for _, size, path in sorted(files, reverse=True):",
        (f"{DATA}/shards/test_remote.py::test_what_was_not_used_for_longest_leaves_a_full_cache",),
    ),
    Change(
        "every line is a paragraph",
        "data_prep/text/rules/gopher.py",
        '_BLANK_LINES = re.compile(r"\\n{2,}")',
        '_BLANK_LINES = re.compile(r"\\n{1,}")',
        (f"{DATA}/text/rules/test_gopher.py::test_gopher_duplicate_lines_and_paragraphs",),
    ),
    Change(
        "words of the shortest mean length are too short",
        "data_prep/text/rules/gopher.py",
        "mean < config.min_mean_word_length:",
        "mean <= config.min_mean_word_length:",
        (f"{DATA}/text/rules/test_gopher.py::test_gopher_quality",),
    ),
    Change(
        "a line of one long word is kept",
        "data_prep/text/rules/c4.py",
        "longest is not None and len(line) > longest and",
        "longest is not None and len(line) > longest + 1 and",
        (f"{DATA}/text/rules/test_c4.py::test_c4_a_line_of_one_word_has_the_same_limit",),
    ),
    Change(
        "rules that find enough sentences are not named",
        "data_prep/text/language.py",
        "if theirs >= BETTER * ours",
        "if theirs > BETTER * ours",
        (f"{DATA}/text/test_language.py::test_rules_that_find_more_sentences_are_named",),
    ),
    Change(
        "contest is a test",
        "data_prep/sources/named_splits.py",
        "claim.inside and len(splits[claim.data_set]) < 2",
        "claim.inside and len(splits[claim.data_set]) < 1",
        (f"{DATA}/sources/test_named_splits.py::test_the_end_of_a_word_counts_beside_its_counterpart_alone",),
    ),
    Change(
        "a file in a folder train is tested on",
        "data_prep/sources/named_splits.py",
        "    for depth, part in enumerate(below):\n",
        "    for depth, part in reversed(list(enumerate(below))):\n",
        (f"{DATA}/sources/test_named_splits.py::test_the_outermost_name_decides",),
    ),
    Change(
        "the latest rows validate and earlier ones are tested on",
        "data_prep/corpus/decide.py",
        'first, then = ("test", "validation") if ordered else ("validation", "test")',
        'first, then = ("validation", "test")',
        (f"{DATA}/corpus/test_decide.py::test_by_rank_the_lowest_are_tested_on_and_the_next_validate",),
    ),
    Change(
        "as many rows are tested on by time as validate",
        "data_prep/corpus/decide.py",
        "(test if ordered else validation, validation + test)",
        "(validation, validation + test)",
        (f"{DATA}/corpus/test_decide.py::test_by_rank_the_lowest_are_tested_on_and_the_next_validate",),
    ),
]
