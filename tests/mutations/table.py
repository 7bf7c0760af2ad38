"""The changes. Each is one that a person might make by mistake, and that would spoil results in silence."""

from __future__ import annotations

from tests.mutations.runner import Change

TRAINING, ENGINES = "tests/training", "tests/training/engines"
NETWORKS, OBJECTIVES = "tests/training/models/autoencoders", "tests/training/objectives"
DATA, PIPELINE, FLOWS = "tests/data_prep", "tests/pipeline", "tests/flows"
JOBS = f"{PIPELINE}/downstream"
RATES = "test_rates_are_chosen_by_validation_rows_and_examples_of_no_reported_seed"
STAYS = "test_the_detector_that_stays_has_its_threshold_from_rows_it_did_not_learn_from"
RIVALS = "test_rivals_learn_from_training_rows_and_are_followed_on_validation_rows"
CODES = "test_errors_are_of_test_rows_and_probes_and_components_of_training_rows"
DISCRETE = "test_codes_are_measured_on_test_rows_and_their_prior_learned_on_training_rows"
SPOILT = "test_held_out_rows_are_spoilt_by_a_stream_of_their_own_and_not_augmented"

CHANGES = [
    # -- training -----------------------------------------------------------------------------------------------------
    Change(
        "dropout is the same in every step",
        "training/loop.py",
        'seed_torch(key(self.seed, f"step {step}", f"rank {self.worker.rank}") >> 1)',
        'seed_torch(key(self.seed, f"rank {self.worker.rank}") >> 1)',
        (
            f"{TRAINING}/test_players.py::test_what_networks_draw_is_another_thing_for_every_step_rank_micro_batch_and_seed",
        ),
    ),
    Change(
        "dropout is the same on every rank",
        "training/loop.py",
        'seed_torch(key(self.seed, f"step {step}", f"rank {self.worker.rank}") >> 1)',
        'seed_torch(key(self.seed, f"step {step}") >> 1)',
        (
            f"{TRAINING}/test_players.py::test_what_networks_draw_is_another_thing_for_every_step_rank_micro_batch_and_seed",
        ),
    ),
    Change(
        "a step that was skipped is followed up",
        "training/loop.py",
        "if updated := all(updates):",
        "if (updated := all(updates)) or True:",
        (f"{TRAINING}/test_players.py::test_nothing_follows_a_step_that_was_skipped",),
    ),
    Change(
        "biases decay",
        "training/engines/plain.py",
        '{"params": [p for p in trained if _dimensions(p) < 2], "weight_decay": 0.0}',
        '{"params": [p for p in trained if _dimensions(p) < 2], "weight_decay": weight_decay}',
        (f"{ENGINES}/test_plain.py::test_matrices_decay_and_vectors_do_not",),
    ),
    Change(
        "matrices do not decay",
        "training/engines/plain.py",
        '{"params": [p for p in trained if _dimensions(p) >= 2], "weight_decay": weight_decay}',
        '{"params": [p for p in trained if _dimensions(p) >= 2], "weight_decay": 0.0}',
        (f"{ENGINES}/test_plain.py::test_matrices_decay_and_vectors_do_not",),
    ),
    Change(
        "a gradient that is not finite is used",
        "training/engines/plain.py",
        "if math.isfinite(size):",
        "if True:",
        (f"{ENGINES}/test_plain.py::test_a_gradient_that_is_not_finite_changes_nothing",),
    ),
    Change(
        "gradients are not clipped",
        "training/engines/plain.py",
        'self.clip if self.clip > 0 else float("inf")',
        'float("inf")',
        (f"{ENGINES}/test_plain.py::test_long_gradients_are_cut_and_their_norm_is_told",),
    ),
    Change(
        "a checkpoint's files go before its marker",
        "training/engines/checkpoint.py",
        "    (folder / MARKER).unlink(missing_ok=True)\n    shutil.rmtree(folder, ignore_errors=True)",
        "    shutil.rmtree(folder, ignore_errors=True)\n    (folder / MARKER).unlink(missing_ok=True)",
        (f"{ENGINES}/test_checkpoint.py::test_a_checkpoint_is_none_before_its_files_go",),
    ),
    Change(
        "the mean over a row's tokens counts padding",
        "training/models/text/fine_tuning.py",
        "hidden = (hidden * mask).sum(1) / mask.sum(1)",
        "hidden = hidden.mean(1)",
        (f"{OBJECTIVES}/test_fine_tuning.py::test_a_row_is_read_alone_as_beside_longer_ones",),
    ),
    Change(
        "Boltzmann machines learn from clean rows",
        "training/objectives/rbm.py",
        'v: Tensor = batch["seen"].flatten(1)',
        'v: Tensor = batch["input"].flatten(1)',
        (f"{NETWORKS}/test_rbm.py::test_machines_learn_from_what_is_seen_and_from_the_means_of_those_below",),
    ),
    Change(
        "one Gibbs step too many",
        "training/models/autoencoders/rbm.py",
        "for _ in range(steps - 1):",
        "for _ in range(steps):",
        (f"{NETWORKS}/test_rbm.py::test_contrastive_divergence_takes_as_many_gibbs_steps_as_asked",),
    ),
    Change(
        "sentence losses of packed rows are all the first row's",
        "training/objectives/masked_lm.py",
        'of_label = batch["starts"] // width if "starts" in batch else row_numbers',
        'of_label = batch["starts"] * 0 if "starts" in batch else row_numbers',
        (f"{OBJECTIVES}/test_packed.py::test_losses_by_row_are_those_of_its_sequences",),
    ),
    Change(
        "a revived code's sum is not that of its count",
        "training/models/autoencoders/vq.py",
        "codebook.embed_avg[0, dead] = chosen * size",
        "codebook.embed_avg[0, dead] = chosen",
        (f"{NETWORKS}/test_vq.py::test_a_revived_code_stays_where_it_began",),
    ),
    Change(
        "classes that cost bits are kept",
        "training/codec/tables.py",
        "if not contexts.limits or np.log2(shares).sum() <= 0:",
        "if not contexts.limits:",
        (f"{NETWORKS}/test_compression.py::test_classes_that_cost_bits_are_left_out",),
    ),
    # -- leaks between splits -----------------------------------------------------------------------------------------
    Change(
        "learning rates are chosen on test rows",
        "pipeline/downstream/fine_tune/trials.py",
        'self._trial(model, labels, SELECTION, lr, "validation")',
        'self._trial(model, labels, SELECTION, lr, "test")',
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
        "examples = some(self.data.splits[split], limit, self.seed)",
        'examples = some(self.data.splits["validation"], limit, self.seed)',
        (f"{JOBS}/fine_tune/test_trials.py::test_a_trial_learns_from_training_examples_alone",),
    ),
    Change(
        "thresholds come from rows that were learned from",
        "pipeline/downstream/anomaly/splits.py",
        "normal = judged(draw.held_out)",
        "normal = judged(draw.learn)",
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
        "normal = scorer.scores(held_out, job.importance_samples)[detector.score]",
        "normal = scorer.scores(learn, job.importance_samples)[detector.score]",
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
    # -- data ---------------------------------------------------------------------------------------------------------
    Change(
        "slots that are left go to the smallest remainders",
        "data_prep/shards/order.py",
        'by_remainder = np.argsort(np.where(free, quota - share, np.inf), kind="stable")',
        'by_remainder = np.argsort(np.where(free, share - quota, np.inf), kind="stable")',
        (f"{DATA}/shards/test_order.py::test_slots_that_are_left_go_to_the_largest_remainders",),
    ),
    Change(
        "bytes behind a shard are overlooked",
        "data_prep/shards/format.py",
        'if (size := path.stat().st_size) != shard["bytes"]:',
        'if (size := path.stat().st_size) < shard["bytes"]:',
        (f"{DATA}/shards/test_format.py::test_a_file_that_has_grown_is_named",),
    ),
    Change(
        "a text that rules made too short is kept",
        "data_prep/text/units.py",
        "if outcome.text is None or len(outcome.text) < config.min_characters:",
        "if outcome.text is None:",
        (f"{DATA}/text/test_units.py::test_what_rules_leave_must_be_long_enough_too",),
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
    # -- pipeline -----------------------------------------------------------------------------------------------------
    Change(
        "Prefect listens on every interface",
        "flows/machine/prefect_server.py",
        "uvicorn.Config(app, host=HOST, port=port",
        'uvicorn.Config(app, host="0.0.0.0", port=port',
        (f"{FLOWS}/machine/test_prefect_server.py::test_it_listens_on_loopback_alone",),
    ),
    Change(
        "the pages listen on every interface",
        "flows/machine/ui.py",
        'HOST = "127.0.0.1"',
        'HOST = "0.0.0.0"',
        (f"{FLOWS}/machine/test_prefect_server.py::test_the_pages_are_served_on_loopback_alone",),
    ),
    Change(
        "gc removes work that is locked",
        "pipeline/store/gc.py",
        "if not held or newest > deadline or not folder.exists():",
        "if newest > deadline or not folder.exists():",
        (f"{PIPELINE}/store/test_garbage.py::test_gc_leaves_work_that_is_locked",),
    ),
    Change(
        "a key of two things is reused",
        "pipeline/store/store.py",
        "        if not same:\n",
        "        if False:\n",
        (f"{PIPELINE}/store/test_store.py::test_a_key_of_two_things_is_refused",),
    ),
    Change(
        "a run is given up at its first refusal",
        "pipeline/tracking/sender.py",
        "return is_refusal(error) and progress.tries >= TRIES",
        "return is_refusal(error)",
        (f"{PIPELINE}/tracking/test_sender.py::test_what_fails_is_given_up_by_what_it_is",),
    ),
    Change(
        "SIGTERM looks like Ctrl-C",
        "flows/commands.py",
        "sys.exit(TERMINATED if terminated.is_set() else INTERRUPTED)",
        "sys.exit(INTERRUPTED)",
        (f"{FLOWS}/test_cli.py::test_a_run_that_was_ended_says_by_its_exit_code_how",),
    ),
    Change(
        "the doctor is always content",
        "flows/commands.py",
        "if any(result.ok is False for result in results):",
        "if False:",
        (f"{FLOWS}/test_cli.py::test_the_doctor_says_by_its_exit_code_whether_there_is_a_problem",),
    ),
]
