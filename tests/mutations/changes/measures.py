"""Changes of metrics, of answers in long texts, and of comparisons of what was predicted."""

from __future__ import annotations

from tests.mutations.runner import Change

ROOM = "pipeline/downstream"
JOBS = "tests/pipeline/downstream"
METRICS, ANSWERS = f"{JOBS}/metrics", f"{JOBS}/question_answering"

CHANGES = [
    Change(
        "the first label is the positive one",
        f"{ROOM}/metrics/labels.py",
        "right * is_true[:, 1], is_predicted[:, 1], is_true[:, 1]",
        "right * is_true[:, 0], is_predicted[:, 0], is_true[:, 0]",
        (f"{METRICS}/test_labels.py::test_the_second_label_is_the_positive_one",),
    ),
    Change(
        "macro F1 is over labels that nobody has, too",
        f"{ROOM}/metrics/labels.py",
        "np.maximum(occurs.sum(-1), 1)",
        "occurs.shape[-1]",
        (f"{METRICS}/test_labels.py::test_labels_that_nobody_has_do_not_count_for_macro_f1",),
    ),
    Change(
        "equal values have the rank of the first",
        f"{ROOM}/metrics/correlations.py",
        "- copies + (copies + 1) / 2",
        "- copies + 1",
        (f"{METRICS}/test_correlations.py::test_equal_to_scipy",),
    ),
    Change(
        "an entity goes on in another type",
        f"{ROOM}/metrics/entities.py",
        "prefix in (_BEGIN, _SINGLE) or before[1] != kind",
        "prefix in (_BEGIN, _SINGLE)",
        (f"{METRICS}/test_entities.py::test_iob2_says_where_its_entities_are",),
    ),
    Change(
        "articles go before punctuation",
        f"{ROOM}/metrics/squad.py",
        '_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT_PUNCTUATION))',
        '_ARTICLES.sub(" ", answer.lower()).translate(_WITHOUT_PUNCTUATION)',
        (f"{METRICS}/test_answers.py::test_what_is_compared",),
    ),
    Change(
        "a word counts as often as either answer has it",
        f"{ROOM}/metrics/squad.py",
        "common = (Counter(gold) & answer).total()",
        "common = sum(answer[word] for word in set(gold))",
        (f"{METRICS}/test_answers.py::test_cases_of_both_squads",),
    ),
    Change(
        "a question without a prediction is not counted",
        f"{ROOM}/metrics/chinese_answers.py",
        "for pair in zip(truth, predicted, strict=True)]",
        "for pair in zip(truth, predicted, strict=True) if pair[1] is not None]",
        (f"{METRICS}/test_answers.py::test_a_missing_prediction_is_wrong_or_refused",),
    ),
    Change(
        "the threshold is tried from the highest score of no answer on",
        f"{ROOM}/metrics/squad.py",
        'np.argsort(of_null, kind="stable")',
        'np.argsort(-of_null, kind="stable")',
        (f"{METRICS}/test_answers.py::test_the_threshold_of_no_answer",),
    ),
    Change(
        "MNLI counts twice unasked",
        f"{ROOM}/metrics/suite.py",
        "    if not mnli_twice:\n",
        "    if mnli_twice:\n",
        (f"{METRICS}/test_suite.py::test_published_scores_of_the_leaderboard",),
    ),
    Change(
        "the overlap is the step",
        f"{ROOM}/question_answering/windows.py",
        "step = room - window_overlap",
        "step = 0 * room + max(window_overlap, 1)",
        (f"{ANSWERS}/test_windows.py::test_windows_are_those_of_a_plain_loop",),
    ),
    Change(
        "a part that is in two windows counts twice",
        f"{ROOM}/question_answering/windows.py",
        "flat.values[first[token[candidates]]] = True",
        "flat.values[:] = True",
        (f"{ANSWERS}/test_windows.py::test_every_token_is_in_a_window_and_counts_in_one",),
    ),
    Change(
        "answers that go on where their first token's window ends are lost",
        f"{ROOM}/question_answering/windows.py",
        "+ np.where(is_wide, _WIDE, 0.0)",
        "+ np.where(is_wide, 0.0, 0.0)",
        (f"{ANSWERS}/test_windows.py::test_a_token_counts_where_it_has_most_context",),
    ),
    Change(
        "half an answer is a target",
        f"{ROOM}/question_answering/spans.py",
        "(begin >= 0) & (end < windows.size)",
        "(begin >= 0) & (begin < windows.size)",
        (f"{ANSWERS}/test_spans.py::test_an_answer_that_is_nowhere_points_at_the_first_token",),
    ),
    Change(
        "no answer has its score of the last window",
        f"{ROOM}/question_answering/spans.py",
        "null_scores = np.minimum.reduceat(",
        "null_scores = np.maximum.reduceat(",
        (f"{ANSWERS}/test_spans.py::test_no_answer_is_what_all_windows_agree_on",),
    ),
    Change(
        "answers may end in the question",
        f"{ROOM}/question_answering/spans.py",
        "np.where(in_context, end_logits, -np.inf)",
        "end_logits",
        (f"{ANSWERS}/test_spans.py::test_the_best_of_all_parts",),
    ),
    Change(
        "runs are compared row by row, whatever the rows are",
        f"{ROOM}/compared_predictions.py",
        "order = [place[number] for number in reference.ids]",
        "order = list(place.values())",
        (f"{JOBS}/test_compared_predictions.py::test_the_order_of_rows_does_not_matter",),
    ),
    Change(
        "seeds are no noise",
        f"{ROOM}/metrics/differences.py",
        "    if num_seeds > 1:\n",
        "    if num_seeds < 1:\n",
        (f"{METRICS}/test_differences.py::test_the_variance_over_seeds_is_without_bias",),
    ),
    Change(
        "both sides draw rows of their own",
        f"{ROOM}/metrics/differences.py",
        "before, after = (_mean_of_seeds(side, weights, random) for side in grouped)",
        "before, after = (_mean_of_seeds(side, random.permuted(weights, axis=1), random) for side in grouped)",
        (f"{METRICS}/test_differences.py::test_the_interval_is_that_of_the_mean_difference",),
    ),
    Change(
        "many questions are as good as one",
        f"{ROOM}/metrics/differences.py",
        "factors = np.arange(len(p_values), 0, -1)",
        "factors = np.ones(len(p_values))",
        (f"{METRICS}/test_differences.py::test_holm_by_hand",),
    ),
    Change(
        "what is as near as the right one comes after it",
        f"{ROOM}/languages/retrieval.py",
        "(similarities >= best[:, None]) & ~is_right",
        "(similarities > best[:, None]) & ~is_right",
        (f"{JOBS}/languages/test_alignment.py::test_vectors_that_are_all_alike_find_nothing",),
    ),
    Change(
        "tokens of both languages count as converted",
        f"{ROOM}/languages/translation_trials.py",
        "(target - source, target & source)",
        "(target, target & source)",
        (f"{JOBS}/languages/test_token_translation.py::test_what_is_counted",),
    ),
    Change(
        "a shift is added where the next layer ends",
        "training/inference/shifted.py",
        "self.layers[layer - 1].register_forward_hook",
        "self.layers[layer % len(self.layers)].register_forward_hook",
        (
            f"{JOBS}/languages/test_token_translation.py::"
            "test_a_shift_is_what_is_added_by_hand_and_by_a_hook_on_the_next_layer",
        ),
    ),
    Change(
        "test rows choose the layer",
        f"{ROOM}/probing/report.py",
        "max(layers, key=lambda layer: layer.validation)",
        "max(layers, key=lambda layer: statistics.fmean(layer.test))",
        (f"{JOBS}/probing/test_probe.py::test_validation_chooses_the_layer",),
    ),
    Change(
        "each place of a word has a control label of its own",
        f"{ROOM}/probing/controls.py",
        "return np.array([of_type[word] for word in words], np.int64)",
        "return np.random.default_rng(seed).permutation(np.array([of_type[word] for word in words], np.int64))",
        (f"{JOBS}/probing/test_probe.py::test_a_word_has_one_control_label_drawn_as_labels_are",),
    ),
]
