"""The changes. Each is one that a person might make by mistake, and that would spoil results in silence."""

from __future__ import annotations

from tests.mutations.runner import Change

TRAINING, ENGINES = "tests/training", "tests/training/engines"
NETWORKS, OBJECTIVES = "tests/training/models/autoencoders", "tests/training/objectives"

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
]
