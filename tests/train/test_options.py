"""Every option of a config names the tests of where it is used: a new one is to name its own."""

import ast
import dataclasses
import pathlib

import configs

FOLDER = pathlib.Path(__file__).parent
TESTED = {
    "name": "checkpoint.test_an_export_says_what_its_users_need_and_nothing_of_the_machine",
    "data": "loop.test_data_are_the_splits_that_the_config_names",
    "train_split": "loop.test_data_are_the_splits_that_the_config_names",
    "val_split": "loop.test_data_are_the_splits_that_the_config_names",
    "workdir": "classify.test_the_smoke_run_learns_and_logs",
    "export": "classify.test_the_exported_file_gives_the_averaged_networks_logits",
    "export_dtype": "checkpoint.test_an_export_says_what_its_users_need_and_nothing_of_the_machine",
    "architecture": "configs.test_an_experiment_says_what_it_is_and_builds_its_network",
    "options": "initial.test_a_network_is_of_the_configs_options_dtype_and_axis",
    "init_from": "initial.test_parameters_start_from_a_file",
    "frozen": "state.test_frozen_layers_keep_every_bit_and_cost_no_backward_pass",
    "compute_dtype": "state.test_bfloat16_computes_in_it_and_keeps_float32",
    "image_size": "pipeline.test_a_crop_shows_the_pixels_of_its_box_resized_and_sometimes_flipped",
    "mean": "augment.test_without_augmentation_only_the_flip_is_left",
    "std": "augment.test_without_augmentation_only_the_flip_is_left",
    "crop_on": "augment.test_photos_that_the_host_cropped_are_not_cropped_again",
    "crop_sizes": "loop.test_each_step_is_of_its_own_epochs_crops",
    "crop_area": "augment.test_a_crop_is_that_of_its_key",
    "crop_ratio": "augment.test_a_crop_is_that_of_its_key",
    "crop_fraction": "pipeline.test_validation_cuts_the_middle_of_the_resized_photo",
    "stretch": "pipeline.test_stretched_photos_are_cut_as_squares_of_them",
    "color_jitter": "augment.test_color_jitter_is_its_formula",
    "cutmix": "augment.test_boxes_are_as_frequent_and_large_as_said",
    "workers": "pipeline.test_so_many_threads_read_as_the_config_says",
    "epochs": "pipeline.test_the_order_is_that_of_seed_and_epoch",
    "batch_size": "pipeline.test_any_number_of_processes_and_threads_makes_the_same_batches",
    "accumulate": "optimizer.test_accumulation_applies_the_mean_of_the_clipped_whole",
    "loss": "objectives.test_sigmoid_cross_entropy_is_that_of_each_class",
    "label_smoothing": "augment.test_without_augmentation_only_the_flip_is_left",
    "auxiliary_weight": "objectives.test_auxiliary_logits_are_trained_too",
    "optimizer": "optimizer.test_adam_is_its_formula",
    "momentum": "optimizer.test_momentum_is_its_formula",
    "nesterov": "optimizer.test_momentum_is_its_formula",
    "weight_decay": "optimizer.test_weight_decay_spares_norms_and_biases",
    "clip_norm": "optimizer.test_the_gradient_is_clipped_as_one_vector",
    "learning_rate": "optimizer.test_cosine_warms_up_and_ends_at_zero",
    "schedule": "optimizer.test_milestones_and_equal_steps_drop_the_rate_after_the_warm_up",
    "warmup_epochs": "optimizer.test_cosine_warms_up_and_ends_at_zero",
    "milestones": "optimizer.test_milestones_and_equal_steps_drop_the_rate_after_the_warm_up",
    "decay_every": "optimizer.test_milestones_and_equal_steps_drop_the_rate_after_the_warm_up",
    "decay_factor": "optimizer.test_milestones_and_equal_steps_drop_the_rate_after_the_warm_up",
    "ema_decay": "state.test_the_average_follows_the_variables_by_its_formula",
    "checkpoint_every": "classify.test_the_smoke_run_learns_and_logs",
    "log_every": "classify.test_the_smoke_run_learns_and_logs",
    "seed": "pipeline.test_crops_hang_on_seed_epoch_and_index_alone",
    "parallel": "parallel.test_several_devices_train_and_validate_as_one",
    "beta": "foster.test_the_penalty_is_of_the_layer_term_and_class_that_the_config_says",
    "layer": "foster.test_the_penalty_is_of_the_layer_term_and_class_that_the_config_says",
    "term": "foster.test_the_penalty_is_of_the_layer_term_and_class_that_the_config_says",
    "explain": "foster.test_the_penalty_is_of_the_layer_term_and_class_that_the_config_says",
    "teacher": "distill.test_a_networks_answers_are_its_logits_on_the_students_images",
    "teacher_kind": "distill.test_a_black_box_is_asked_once_about_each_view",
    "teacher_options": "distill.test_a_black_box_gets_its_options",
    "teacher_mean": "distill.test_a_black_box_gets_its_own_normalisation",
    "teacher_std": "distill.test_a_black_box_gets_its_own_normalisation",
    "teacher_probabilities": "distill.test_probabilities_become_logits",
    "temperature": "distill.test_the_loss_is_its_formula",
    "kd_weight": "distill.test_the_loss_is_its_formula",
    "ce_weight": "distill.test_the_loss_is_its_formula",
    "answers": "distill.test_a_stopped_run_asks_only_for_the_missing_views",
    "unreadable": "unreadable.test_more_broken_photos_than_may_be_end_the_run",
    "views": "distill.test_views_come_again_in_the_third_epoch",
}


def test_every_option_names_a_test_that_there_is():
    kinds = (configs.Classification, configs.Fostering, configs.Distillation)
    assert set(TESTED) == {field.name for kind in kinds for field in dataclasses.fields(kind)}
    for option, test in TESTED.items():
        module, name = test.split(".")
        tree = ast.parse((FOLDER / f"test_{module}.py").read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, option
