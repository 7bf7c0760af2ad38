"""Changes by which rows that judge are learned from, or rows that were learned from judge."""

from __future__ import annotations

from tests.mutations.runner import Change

TRAINING = "tests/training"
AS_USED = "test_networks_train_in_training_and_are_as_used_in_evaluation"
THRESHOLD = "test_a_threshold_is_chosen_by_validation_rows_and_never_by_those_that_are_scored"
LOST = "test_a_question_whose_answer_stands_nowhere_is_not_learned_as_one_without_an_answer"
DATA, PIPELINE = "tests/data_prep", "tests/pipeline"
JOBS = f"{PIPELINE}/downstream"
RATES = "test_rates_are_chosen_by_validation_rows_and_examples_of_no_reported_seed"
STAYS = "test_the_detector_that_stays_has_its_threshold_from_rows_it_did_not_learn_from"
RIVALS = "test_rivals_learn_from_training_rows_and_are_followed_on_validation_rows"
CODES = "test_errors_are_of_test_rows_and_probes_and_components_of_training_rows"
DISCRETE = "test_codes_are_measured_on_test_rows_and_their_prior_learned_on_training_rows"
SPOILT = "test_held_out_rows_are_spoilt_by_a_stream_of_their_own_and_not_augmented"

CHANGES = [
    Change(
        "learning rates are chosen on test rows",
        "pipeline/downstream/fine_tune/trials.py",
        'self.trial(model, labels, SELECTION, lr, "validation")',
        'self.trial(model, labels, SELECTION, lr, "test")',
        (f"{JOBS}/fine_tune/test_trials.py::{RATES}",),
    ),
    Change(
        "learning rates are chosen with a reported seed",
        "pipeline/downstream/fine_tune/trials.py",
        "SELECTION = -1",
        "SELECTION = 0",
        (f"{JOBS}/fine_tune/test_trials.py::{RATES}",),
    ),
    Change(
        "a trial is judged on validation rows, whatever is asked",
        "pipeline/downstream/fine_tune/trials.py",
        "examples = some(self.data.splits[split], most, self.seed)",
        'examples = some(self.data.splits["validation"], most, self.seed)',
        (f"{JOBS}/fine_tune/test_trials.py::test_a_trial_learns_from_training_examples_alone",),
    ),
    Change(
        "thresholds come from rows that were learned from",
        "pipeline/downstream/anomaly/splits.py",
        "normal = raised(of_held_out, draw.held_out)[detector.score]",
        "normal = raised(of_learned, draw.learn)[detector.score]",
        (f"{JOBS}/anomaly/test_splits.py::test_every_step_has_its_own_rows",),
    ),
    Change(
        "the transform of a split has seen all its rows",
        "pipeline/downstream/anomaly/splits.py",
        'rows = pool.scaled(draw.learn, settings["transform"])',
        'rows = pool.scaled(np.concatenate([draw.train, draw.test]), settings["transform"])',
        (f"{JOBS}/anomaly/test_splits.py::test_every_step_has_its_own_rows",),
    ),
    Change(
        "baselines learn from test rows",
        "pipeline/downstream/anomaly/splits.py",
        "(rows.flat[which] for which in (draw.train, draw.marked, draw.test))",
        "(rows.flat[which] for which in (draw.test, draw.marked, draw.test))",
        (f"{JOBS}/anomaly/test_splits.py::test_every_step_has_its_own_rows",),
    ),
    Change(
        "candidates are chosen on a reported split",
        "pipeline/downstream/anomaly/networks.py",
        "SELECTION = (-1, -2, -3)",
        "SELECTION = (0, -2, -3)",
        (f"{JOBS}/anomaly/test_splits.py::test_candidates_are_chosen_on_splits_that_are_not_reported",),
    ),
    Change(
        "the detector that stays has its threshold from rows that it learned from",
        "pipeline/downstream/anomaly/export.py",
        "normal = usual.raised(plain, held_out.outside)",
        "normal = usual.raised(of_learned, learned.outside)",
        (f"{JOBS}/anomaly/test_splits.py::{STAYS}",),
    ),
    Change(
        "rows are trimmed by a network that has seen them",
        "pipeline/downstream/anomaly/trimming.py",
        "scores[in_fold] = judge(rows[~in_fold], rows[in_fold], fold)",
        "scores[in_fold] = judge(rows[in_fold], rows[in_fold], fold)",
        (f"{JOBS}/anomaly/test_splits.py::test_a_scorer_is_measured_on_what_it_learned_from",),
    ),
    Change(
        "thresholds of documents come from test documents",
        "pipeline/downstream/document_anomaly/trial.py",
        'passages.of_split(self.corpus, "validation", job.words, job.threshold_documents, self.seed)',
        'passages.of_split(self.corpus, "test", job.words, job.threshold_documents, self.seed)',
        (f"{JOBS}/document_anomaly/test_trial.py::test_every_step_has_its_own_documents",),
    ),
    Change(
        "baselines of documents learn from validation documents",
        "pipeline/downstream/document_anomaly/trial.py",
        'passages.of_split(self.corpus, "train", job.words, job.train_documents, self.seed)',
        'passages.of_split(self.corpus, "validation", job.words, job.train_documents, self.seed)',
        (f"{JOBS}/document_anomaly/test_trial.py::test_every_step_has_its_own_documents",),
    ),
    Change(
        "curves are drawn of test rows",
        "pipeline/downstream/autoencoders/curves.py",
        'for split in ("train", "validation", "test"))',
        'for split in ("train", "test", "test"))',
        (f"{JOBS}/autoencoders/test_curves.py::{RIVALS}",),
    ),
    Change(
        "codes are scored on training rows",
        "pipeline/downstream/autoencoders/codes.py",
        'train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")',
        'train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "train")',
        (f"{JOBS}/autoencoders/test_codes.py::{CODES}",),
    ),
    Change(
        "components are fitted to test rows",
        "pipeline/downstream/autoencoders/codes.py",
        'pca = Components(size, svd_solver="full").fit(flat(rows.train))',
        'pca = Components(size, svd_solver="full").fit(flat(rows.test))',
        (f"{JOBS}/autoencoders/test_codes.py::{CODES}",),
    ),
    Change(
        "discrete codes are scored on training rows",
        "pipeline/downstream/autoencoders/discrete.py",
        'for split in ("train", "test"))',
        'for split in ("train", "train"))',
        (f"{JOBS}/autoencoders/test_discrete.py::{DISCRETE}",),
    ),
    Change(
        "a prior of codes is learned from test rows",
        "pipeline/downstream/autoencoders/discrete.py",
        "_prior(job, settings, model, train.codes, test.codes, context)",
        "_prior(job, settings, model, test.codes, test.codes, context)",
        (f"{JOBS}/autoencoders/test_discrete.py::{DISCRETE}",),
    ),
    Change(
        "training rows are restored",
        "pipeline/downstream/autoencoders/restoration.py",
        'train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")',
        'train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "train")',
        (f"{JOBS}/autoencoders/test_restoration.py::test_networks_learn_from_training_rows_and_restore_test_rows",),
    ),
    Change(
        "a job's held-out rows are spoilt by training's stream",
        "pipeline/downstream/train_in_memory.py",
        "stream(held_out, CORRUPT_HELD_OUT, AugmentConfig())",
        "stream(held_out, CORRUPT, AugmentConfig())",
        (f"{JOBS}/test_train_in_memory.py::{SPOILT}",),
    ),
    Change(
        "a job's held-out rows are augmented",
        "pipeline/downstream/train_in_memory.py",
        "stream(held_out, CORRUPT_HELD_OUT, AugmentConfig())",
        "stream(held_out, CORRUPT_HELD_OUT, augment)",
        (f"{JOBS}/test_train_in_memory.py::{SPOILT}",),
    ),
    Change(
        "validation rows are corrupted by training's stream",
        "training/job.py",
        "return Stream([corpus], job.seed, order, transform, CORRUPT_HELD_OUT), min(",
        "return Stream([corpus], job.seed, order, transform), min(",
        (f"{TRAINING}/test_job.py::test_held_out_rows_have_draws_of_their_own_and_are_not_augmented",),
    ),
    Change(
        "a transform for normal rows is fitted to all",
        "data_prep/tables/kind.py",
        "lambda: (_table(batch) for batch in chosen_batches(train, normal)),",
        "lambda: (_table(batch) for batch in chosen_batches(train, None)),",
        ("tests/pipeline/stages/test_arrays.py::test_one_class_training_never_sees_an_anomaly",),
    ),
    Change(
        "a transform is fitted to test rows",
        "data_prep/tables/kind.py",
        'train = ArrayCorpus(corpus, "train")',
        'train = ArrayCorpus(corpus, "test")',
        ("tests/pipeline/stages/test_arrays.py::test_the_transform_is_fitted_to_training_rows",),
    ),
    Change(
        "what is drawn for held-out rows is training's",
        "training/evaluation.py",
        'DRAWN_HELD_OUT = "objective held-out"',
        'DRAWN_HELD_OUT = "objective"',
        (f"{TRAINING}/test_players.py::{AS_USED}",),
    ),
    Change(
        "only normal rows are tested",
        "data_prep/array_kind.py",
        'chosen_batches(rows, normal if split == "train" else None)',
        "chosen_batches(rows, normal)",
        ("tests/pipeline/stages/test_arrays.py::test_one_class_training_never_sees_an_anomaly",),
    ),
    Change(
        "rows that are learned from are tested on",
        "pipeline/downstream/anomaly/rows.py",
        "test = np.concatenate([normal[num_normal:], rest])",
        "test = np.concatenate([normal, rest])",
        (f"{JOBS}/anomaly/test_splits.py::test_no_row_is_in_two_places_of_a_split",),
    ),
    Change(
        "a tokenizer is learned from validation documents",
        "data_prep/text/kind.py",
        'documents = [Corpus(corpus, "train", part) for part in parts]',
        'documents = [Corpus(corpus, "validation", part) for part in parts]',
        (f"{DATA}/text/test_kind.py::test_a_tokenizer_is_learned_from_training_documents",),
    ),
    Change(
        "the usual range is that of rows that were learned from",
        "pipeline/downstream/anomaly/splits.py",
        "Usual.of(*zip((of_learned[name], of_held_out[name]), outside, strict=True))",
        "Usual.of((of_learned[name], outside[0]))",
        (f"{JOBS}/anomaly/test_splits.py::test_every_step_has_its_own_rows",),
    ),
    Change(
        "marked anomalies draw a threshold as normal rows",
        "pipeline/downstream/anomaly/splits.py",
        "labels = np.repeat([False, True], [len(normal), len(draw.marked)])",
        "labels = np.repeat([True, False], [len(normal), len(draw.marked)])",
        (f"{JOBS}/anomaly/test_splits.py::test_every_step_has_its_own_rows",),
    ),
    Change(
        "networks that are compared are not paired",
        "pipeline/downstream/autoencoders/restoration.py",
        'key(settings["seed"], f"{job.name} seed {seed}") >> 1',
        'key(settings["seed"], f"{job.name} {kind} seed {seed}") >> 1',
        (f"{JOBS}/autoencoders/test_restoration.py::test_networks_learn_from_training_rows_and_restore_test_rows",),
    ),
    Change(
        "every draw shuffles words alike",
        "pipeline/downstream/document_anomaly/trial.py",
        "changed(normal, shuffling(seed, number))",
        "changed(normal, shuffling(seed, 0))",
        (
            f"{JOBS}/document_anomaly/test_trial.py::test_draws_are_of_different_test_documents_and_words_of_training_ones",
        ),
    ),
    Change(
        "the network of random weights has the trained ones",
        "pipeline/downstream/document_anomaly/trial.py",
        'random = self._network(self.seed) if "random-network"',
        'random = self._network() if "random-network"',
        (f"{JOBS}/document_anomaly/test_trial.py::test_a_network_of_random_weights_has_the_seed_of_the_recipe",),
    ),
    Change(
        "a tie is a win of pretraining",
        "pipeline/downstream/fine_tune/reports/report.py",
        "sum(d > 0 for d in differences)",
        "sum(d >= 0 for d in differences)",
        (f"{JOBS}/fine_tune/reports/test_report.py::test_a_difference_is_clear_beyond_its_spread_and_a_tie_is_no_win",),
    ),
    Change(
        "an encoder is proposed by its score with the fewest labels",
        "pipeline/downstream/fine_tune/reports/report.py",
        "    num_labels = max(job.label_counts)\n    cell = next",
        "    num_labels = min(job.label_counts)\n    cell = next",
        (f"{JOBS}/fine_tune/reports/test_report.py::test_the_encoder_is_proposed_by_its_score_with_the_most_labels",),
    ),
    Change(
        "rows without a label count as anomalies",
        "pipeline/scoring/row_detector.py",
        "is_labelled = label >= 0",
        "is_labelled = label >= -1",
        (f"{PIPELINE}/scoring/test_row_detector.py::test_a_detector_is_measured_on_labelled_rows_that_are_included",),
    ),
    Change(
        "the last detector of a job stays",
        "pipeline/downstream/anomaly/splits.py",
        "exported = export(chosen[0][0], settings",
        "exported = export(chosen[-1][0], settings",
        (f"{JOBS}/anomaly/test_splits.py::test_the_first_detector_of_a_job_stays",),
    ),
    Change(
        "training from scratch begins at pretrained weights",
        "pipeline/downstream/fine_tune/trials.py",
        "return encoder.from_random_weights() if source.scratch else encoder.copied()",
        "return encoder.copied()",
        (f"{JOBS}/fine_tune/test_trials.py::test_every_trial_has_an_encoder_of_its_own",),
    ),
    Change(
        "a trial goes on from the weights of another",
        "pipeline/downstream/fine_tune/trials.py",
        "return encoder.from_random_weights() if source.scratch else encoder.copied()",
        "return encoder.from_random_weights() if source.scratch else encoder",
        (f"{JOBS}/fine_tune/test_trials.py::test_every_trial_has_an_encoder_of_its_own",),
    ),
    Change(
        "a score on validation rows is reported as one on test rows",
        "pipeline/downstream/fine_tune/trials.py",
        '"seed": seed, "lr": lr, "split": split},',
        '"seed": seed, "lr": lr},',
        (f"{JOBS}/fine_tune/test_trials.py::test_a_trial_is_found_again_by_all_that_it_depends_on",),
    ),
    Change(
        "the threshold of no answer is chosen on the rows that are reported",
        "pipeline/downstream/fine_tune/trials.py",
        'if split == "validation" or not hasattr(self.head, "fitted"):',
        'if not hasattr(self.head, "fitted"):',
        (f"{JOBS}/fine_tune/test_trials.py::{THRESHOLD}",),
    ),
    Change(
        "questions whose answers are lost are learned as questions without an answer",
        "pipeline/downstream/fine_tune/heads/answers.py",
        "~asked.lost[asked.windows.example])",
        "~asked.lost[asked.windows.example] | True)",
        (f"{JOBS}/fine_tune/test_heads.py::{LOST}",),
    ),
    Change(
        "words that stand in two windows are asked twice",
        "pipeline/downstream/question_answering/windows.py",
        "asked = is_counted(windows, contexts, 1).values & wanted[token.values]",
        "asked = wanted[token.values]",
        (f"{JOBS}/fine_tune/test_heads.py::test_every_word_of_a_long_sentence_is_asked_once",),
    ),
]
