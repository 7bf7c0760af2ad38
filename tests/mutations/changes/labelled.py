"""Changes of how labelled files are read, split and checked."""

from __future__ import annotations

from tests.mutations.runner import Change

ROOM, TESTS = "data_prep/labelled", "tests/data_prep/labelled"
TASKS, LAYOUTS = f"{TESTS}/test_tasks.py", f"{TESTS}/test_layouts.py"
REFUSED = f"{TESTS}/test_refused_tasks.py"
RECORDINGS = f"{TESTS}/test_recordings.py"
LABELS, CHOICES = f"{TESTS}/test_labels.py", f"{TESTS}/test_choices.py"

CHANGES = [
    Change(
        "a network that has diverged is scored",
        "pipeline/downstream/fine_tune/trials.py",
        "if not np.isfinite(scores.values).all():",
        "if scores is None:",
        (
            "tests/pipeline/downstream/fine_tune/test_diverged.py"
            "::test_a_network_has_diverged_whose_weights_or_scores_are_no_numbers",
        ),
    ),
    Change(
        "a rate that diverges in a reported seed is reported without that seed",
        "pipeline/downstream/fine_tune/trials.py",
        "if not any(trial.diverged for trial in trials):",
        "if trials := [trial for trial in trials if not trial.diverged]:",
        (
            "tests/pipeline/downstream/fine_tune/test_diverged.py"
            "::test_rates_at_which_a_network_diverges_are_not_chosen_and_are_named",
        ),
    ),
    Change(
        "rows with a part have no score of their language",
        "pipeline/downstream/fine_tune/metrics.py",
        "if example.language and len(languages) > 1:",
        "if example.language and len(languages) > 1 and not example.part:",
        (
            "tests/pipeline/downstream/fine_tune/reports/test_languages.py"
            "::test_rows_with_parts_and_languages_have_scores_of_both",
        ),
    ),
    Change(
        "rows that a test server asks for are left out",
        "data_prep/labelled/loading.py",
        "                if self.has_all:\n",
        "                if self.has_all and not self.task.max_rejects:\n",
        ("tests/data_prep/labelled/test_tasks.py::test_no_row_of_predict_is_left_out",),
    ),
    Change(
        "a row ends at any sign that Python takes for a line end",
        f"{ROOM}/layouts/table.py",
        'text = raw.decode("utf-8", "surrogateescape").removesuffix("\\n").removesuffix("\\r")\n        if text:',
        'text = "".join(raw.decode("utf-8", "surrogateescape").splitlines()[:1])\n        if text:',
        (f"{TASKS}::test_unquoted_rows_come_back",),
    ),
    Change(
        "a row of another width keeps the columns that it has",
        f"{ROOM}/layouts/table.py",
        "elif len(cells) != len(header):",
        "elif len(cells) < len(header):",
        (f"{REFUSED}::test_what_cannot_be_used_is_refused",),
    ),
    Change(
        "equal texts may be in two splits",
        f"{ROOM}/loading.py",
        "split_of = assign_splits(list(dict.fromkeys(contents)), share, task.seed)",
        "contents = [f'{n}{text}' for n, text in enumerate(contents)]\n"
        "    split_of = assign_splits(list(dict.fromkeys(contents)), share, task.seed)",
        (f"{TASKS}::test_train_is_divided_by_contents_whatever_the_order",),
    ),
    Change(
        "questions about one context may be in two splits",
        f"{ROOM}/loading.py",
        'key = "text" if task.predicts == "answer" else None',
        "key = None",
        (f"{TASKS}::test_questions_about_one_context_stay_together",),
    ),
    Change(
        "two scored rows may have one id",
        f"{ROOM}/loading.py",
        'if split != "train":',
        "if False:",
        (f"{REFUSED}::test_what_cannot_be_used_is_refused", f"{LAYOUTS}::test_questions_that_cannot_be_read"),
    ),
    Change(
        "rows that cannot be used are left out and not counted",
        f"{ROOM}/rows.py",
        'self._reading.add("rows that cannot be used, left out", str(error))',
        "pass",
        (f"{TASKS}::test_ignored_labels_and_rejects_are_counted",),
    ),
    Change(
        "an answer stands where the file says, whatever stands there",
        f"{ROOM}/answers.py",
        "if start >= 0 and context.startswith(text, start):",
        "if start >= 0:",
        (f"{LAYOUTS}::test_an_answer_stands_where_its_place_says",),
    ),
    Change(
        "a misplaced answer is taken where its text stands first",
        f"{ROOM}/answers.py",
        "return before if start - before <= after - start else after",
        "return context.find(text)",
        (f"{LAYOUTS}::test_answers_that_are_not_where_the_file_says",),
    ),
    Change(
        "contexts are cleaned, and answers are not where they were",
        f"{ROOM}/heads.py",
        'content: dict[str, Any] = {"text": context, "text_pair": question}',
        'content: dict[str, Any] = {"text": cleaning(context) if cleaning else context, "text_pair": question}',
        (f"{TASKS}::test_texts_are_cleaned_where_asked",),
    ),
    Change(
        "an impossible question keeps its answers",
        f"{ROOM}/layouts/squad.py",
        'if fields.get("is_impossible") is True:',
        "if False:",
        (f"{LAYOUTS}::test_squad_v2",),
    ),
    Change(
        "a token of several words is a word of its own",
        f"{ROOM}/layouts/tokens.py",
        "elif columns == CONLL_U and not cells[0].isdecimal():",
        'elif columns == CONLL_U and "." in cells[0]:',
        (f"{LAYOUTS}::test_conll_u",),
    ),
    Change(
        "an unlabelled row has the last label",
        f"{ROOM}/layouts/arrow.py",
        "return None if value < 0 else names[value]",
        "return names[value]",
        (f"{LAYOUTS}::test_rows_without_a_label_are_refused_but_for_predictions",),
    ),
    Change(
        "a split of a folder may lack a file",
        f"{ROOM}/layouts/hub.py",
        "if incomplete := _incomplete(chosen):",
        "if False and (incomplete := _incomplete(chosen)):",
        (f"{LAYOUTS}::test_a_folder_of_parquet",),
    ),
    Change(
        "rows are compared as they are written",
        f"{ROOM}/checks.py",
        '(clean(example.text), clean(example.text_pair or ""), example.choices)',
        "(example.text, example.text_pair, example.choices)",
        (f"{TASKS}::test_leaks_are_counted_and_named",),
    ),
    Change(
        "a share of train stands for a validation file that is missing",
        f"{ROOM}/suite.py",
        "(there.train and not (task.validation or task.test))",
        "there.train",
        (f"{TESTS}/test_suites.py::test_a_train_file_without_its_validation_is_no_task",),
    ),
    Change(
        "several sets of a folder are one",
        f"{ROOM}/layouts/hub.py",
        "if len(sets) > 1:",
        "if len(sets) > 9:",
        (f"{LAYOUTS}::test_one_of_several_sets_in_a_folder_is_named",),
    ),
    Change(
        "a number that is none is a text",
        f"{ROOM}/values.py",
        "and not isinstance(value, bool) and math.isfinite(value)",
        "and not isinstance(value, bool)",
        (f"{REFUSED}::test_a_number_that_is_none_is_no_text",),
    ),
    Change(
        "the first word of a row to predict may be taken for its label",
        f"{ROOM}/unlabelled.py",
        'if delimiter == " " and one.label in one.columns[:-1]:',
        "if False:",
        (f"{TESTS}/test_unlabelled.py::test_a_label_in_front_of_blanks_is_not_taken_from_a_question",),
    ),
    Change(
        "rows of two files for a test server are written as one",
        "pipeline/downstream/fine_tune/submission.py",
        "file = example.submit or",
        "file =",
        ("tests/pipeline/downstream/fine_tune/test_submission.py::test_every_part_has_the_file_that_it_asks_for",),
    ),
    Change(
        "copies of a recording under two names are not the same row",
        f"{ROOM}/checks.py",
        "return example.digest or example.words or",
        "return example.words or",
        (f"{RECORDINGS}::test_copies_of_a_recording_are_leaks",),
    ),
    Change(
        "copies of a recording may be in two splits",
        f"{ROOM}/loading.py",
        'key = key if task.kind == TEXT else "digest"',
        'key = key if task.kind == TEXT else "text"',
        (f"{RECORDINGS}::test_copies_stay_together_where_rows_are_held_out",),
    ),
    Change(
        "recordings are fine-tuned on without the scale of pretraining",
        "data_prep/sound/kind.py",
        "return scale.apply(frames(waveform / FULL_SCALE, scale.sample_rate, scale.config))",
        "return frames(waveform / FULL_SCALE, scale.sample_rate, scale.config)",
        ("tests/data_prep/sound/test_sound.py::test_a_file_is_read_as_the_rows_of_shards_were",),
    ),
    Change(
        "a long recording is answered as its first piece is",
        "pipeline/downstream/fine_tune/heads/arrays.py",
        "means = np.add.reduceat(scores.values.astype(np.float64), begins) / counts[:, None]",
        "means = scores.values.astype(np.float64)[begins]",
        (
            "tests/pipeline/downstream/fine_tune/test_recordings.py"
            "::test_frames_are_those_of_pretraining_and_what_is_long_is_read_in_pieces",
        ),
    ),
    Change(
        "what is in no segment of a recording is learned as the first label",
        "pipeline/downstream/fine_tune/heads/__init__.py",
        "return _with_known_targets(self.rows if",
        "return (self.rows if",
        (
            "tests/pipeline/downstream/fine_tune/test_segments.py"
            "::test_every_frame_is_asked_once_at_its_time_and_unknown_ones_teach_nothing",
        ),
    ),
    Change(
        "segments begin half a window of a frame too early",
        "data_prep/sound/kind.py",
        "return (np.arange(length) * hop + window / 2) / self.scale.sample_rate",
        "return np.arange(length) * hop / self.scale.sample_rate",
        ("tests/data_prep/sound/test_sound.py::test_frames_have_the_time_of_their_middle",),
    ),
    Change(
        "questions about one recording are divided among splits",
        f"{ROOM}/loading.py",
        'if task.kind != TEXT and task.predicts == "answer":',
        "if False:",
        (f"{TESTS}/test_segments.py::test_questions_about_one_recording_stay_together_where_rows_are_held_out",),
    ),
    Change(
        "segments may overlap",
        f"{ROOM}/segments.py",
        "if segment.start < end - ROUNDING:",
        "if False:",
        (f"{TESTS}/test_segments.py::test_segments_that_cannot_be_meant_are_refused_or_counted",),
    ),
    Change(
        "a server opens the files that its clients name",
        f"{ROOM}/heads.py",
        "if columns.are_sent:",
        "if False:",
        ("tests/pipeline/downstream/fine_tune/test_recordings.py::test_a_server_is_sent_recordings_and_opens_no_file",),
    ),
    Change(
        "networks that were scored on other recordings under the same names compete",
        "pipeline/downstream/fine_tune/reports/report.py",
        'same = ("cleaning", "corpus", "task", "seed", "examples")',
        'same = ("cleaning", "corpus", "task", "seed")',
        (
            "tests/pipeline/downstream/fine_tune/test_recordings.py"
            "::test_a_job_learns_from_recordings_and_answers_alike_wherever_it_is_asked",
        ),
    ),
    Change(
        "each row says for itself whether its label is a text or a number",
        f"{ROOM}/choices.py",
        "if unclear:",
        "if False:",
        (f"{CHOICES}::test_a_label_that_may_be_a_text_or_a_number_is_refused",),
    ),
    Change(
        "a label that is a choice's text is one, though the others are numbers",
        f"{ROOM}/choices.py",
        "if (may_be_numbers and not may_be_texts) or text is None",
        "if text is None",
        (f"{CHOICES}::test_numbers_among_choices_are_read_alike_whatever_the_format",),
    ),
    Change(
        "an empty cell is a choice",
        f"{ROOM}/heads.py",
        'while cells and (cells[-1] is None or cells[-1] == ""):',
        "while False:",
        (f"{CHOICES}::test_the_last_of_one_column_for_each_choice_may_be_empty",),
    ),
    Change(
        "names of labels are not cleaned",
        f"{ROOM}/heads.py",
        "name = label_of(row.where, columns.label, value, cleaning)",
        "name = label_of(row.where, columns.label, value, None)",
        (f"{LABELS}::test_names_of_labels_are_cleaned_as_texts_are",),
    ),
    Change(
        "the answer may be an input",
        f"{ROOM}/loading.py",
        'self.split != "predict" and label in columns_in(inputs)',
        "False",
        (f"{LABELS}::test_the_answer_is_no_input",),
    ),
    Change(
        "words in cells are parted at blanks, whatever the cell is",
        f"{ROOM}/values.py",
        'if cell.lstrip().startswith("["):',
        "if False:",
        (
            f"{LABELS}::test_words_and_tags_of_cells_may_be_json",
            f"{LABELS}::test_lists_as_python_prints_them_are_refused",
        ),
    ),
    Change(
        "a row without a language has the language None",
        f"{ROOM}/loading.py",
        'if self.needs_names and (value is None or value == ""):',
        "if False:",
        (f"{LABELS}::test_a_row_without_its_language_is_refused_and_counted",),
    ),
]
