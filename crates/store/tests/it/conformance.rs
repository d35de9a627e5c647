//! One suite over all engines.

mod actions;
mod artifacts;
mod assignment;
mod audit;
mod caches;
mod claims;
mod collect;
mod completion;
mod groups;
mod listing;
mod ordering;
mod purge;
mod runners;
mod runs;
mod scale_sets;
mod taking;
mod tokens;
mod values;

/// Makes a test of each claim for each engine. A claim that is not listed is dead code, which is an error.
macro_rules! claims {
    ($($area:ident { $($claim:ident)+ })+) => {
        claims!(over memory $($area { $($claim)+ })+);
        claims!(over sqlite $($area { $($claim)+ })+);
    };
    (over $engine:ident $($area:ident { $($claim:ident)+ })+) => {
        mod $engine {
            $(mod $area {
                $(#[tokio::test]
                async fn $claim() {
                    crate::conformance::$area::$claim(crate::bench::Bench::$engine()).await;
                })+
            })+
        }
    };
}

claims! {
    claims {
        a_claim_goes_to_the_end_of_its_line
        a_claim_that_is_repeated_keeps_its_place
        who_waits_is_told_why
        a_claim_stands_as_was_said_last
        a_claim_is_removed_once_and_its_id_is_not_used_again
        a_conclusion_takes_a_runs_claims_out
        a_claim_needs_its_run_and_job
    }
    tokens {
        a_new_store_has_no_api_tokens
        an_api_token_is_found_by_its_hash
        an_unknown_api_token_is_none
        an_expired_api_token_is_found
        an_api_token_hash_exists_once
        a_registration_token_begins_unused
        a_registration_token_hash_exists_once
        times_are_kept_to_the_microsecond
        the_end_of_time_can_be_kept
        an_api_token_keeps_its_scope_and_permissions
        an_api_token_is_revoked_once
        a_registration_token_is_revoked_once
        an_unknown_registration_token_is_none
        the_uses_of_a_registration_token_are_counted
        a_registration_token_needs_a_group_of_its_scope
        tokens_are_listed_by_kind_and_id
        tokens_that_ended_before_are_purged
        expired_runner_tokens_are_purged
        a_purge_is_bounded
        a_store_whose_tokens_were_purged_is_not_new
    }
    runners {
        a_runner_is_registered_with_what_it_says
        an_unknown_registration_token_is_refused
        an_expired_registration_token_is_refused
        a_registration_token_works_until_just_before_its_end
        a_used_up_registration_token_is_refused
        a_refused_registration_is_not_a_use
        labels_outside_the_allow_list_are_all_named
        labels_are_allowed_without_case
        an_empty_allow_list_allows_no_label
        the_token_decides_the_group
        the_token_can_make_runners_ephemeral
        a_runner_may_ask_to_be_ephemeral
        a_taken_name_is_refused
        names_are_compared_without_case
        a_name_is_taken_within_its_scope_alone
        replace_takes_the_name_over
        replace_without_a_holder_replaces_nobody
        the_name_of_a_deleted_runner_is_free
        a_hundred_registrations_at_once_use_a_token_of_ten_ten_times
        registrations_at_once_under_one_name_yield_one_runner
        runner_ids_are_not_used_twice
        a_runner_token_speaks_for_its_runner
        an_unknown_runner_token_is_none
        a_runner_token_ends_at_its_time
        a_deleted_runners_token_says_so_even_when_expired
        a_replaced_runners_token_says_so
        a_renewed_token_works_and_the_old_one_for_two_more_minutes
        renewal_does_not_lengthen_an_old_token
        renewal_leaves_other_runners_alone
        a_runner_that_is_gone_cannot_renew
        a_registration_under_a_known_token_hash_changes_nothing
        a_renewal_with_a_known_token_hash_changes_nothing
        capabilities_are_replaced
        a_runner_that_is_gone_cannot_change_its_capabilities
        a_runner_is_deleted_once
        runners_are_listed_by_id_without_deleted_ones
        the_token_decides_the_scope
        a_revoked_registration_token_is_refused
        protected_labels_are_all_named
        a_token_that_names_a_protected_label_gives_it
        the_innermost_group_protects_its_labels
        a_label_that_becomes_protected_is_refused_from_then_on
        a_new_runner_was_never_seen
        the_latest_sign_of_life_is_kept
        runners_that_are_gone_are_not_seen
    }
    actions {
        a_runner_of_the_actions_protocol_registers_without_a_token
        what_is_said_of_an_actions_runner_is_kept
        a_client_speaks_for_its_runner
        a_deleted_runners_client_says_so
        a_client_id_is_given_once
        an_ephemeral_actions_runner_ends_with_its_job
        an_administrator_adds_a_runner_to_a_scope_and_group
        an_added_runner_takes_a_name_over_only_when_asked
        a_replaced_actions_runner_is_gone
        labels_of_a_runner_are_replaced
        the_version_of_a_runner_is_replaced
        a_runner_that_is_gone_is_not_changed
    }
    scale_sets {
        a_scale_set_is_kept_as_added
        a_name_of_a_scale_set_is_unique_within_scope_and_group
        a_scale_set_needs_a_group_of_its_scope
        scale_sets_are_listed_by_id_for_one_scope
        what_is_not_changed_of_a_scale_set_stays
        a_scale_set_does_not_take_the_name_of_another
        message_ids_of_a_scale_set_only_grow
        what_a_scale_set_was_told_of_begun_jobs_is_kept_until_they_are_over
        runners_are_made_for_a_scale_set_that_is_there
        a_deleted_scale_set_takes_its_idle_runners_with_it
    }
    artifacts {
        an_artifact_begins_unfinished
        an_artifact_is_made_final_with_size_and_digest
        finality_is_repeated_only_with_the_same_values
        an_unknown_artifact_is_not_made_final
        a_final_artifact_keeps_its_name
        an_unfinished_artifact_gives_its_name_up
        the_artifacts_of_a_run_are_listed_newest_first
        an_artifact_is_deleted_once
        artifacts_expire
        unfinished_artifacts_are_given_up_after_a_day
        final_artifacts_use_space
        blobs_in_use_are_told_from_others
    }
    caches {
        a_cache_entry_is_kept_as_reserved
        a_place_is_reserved_once_an_hour
        a_final_cache_entry_keeps_its_place
        a_cache_entry_is_committed_once
        only_final_cache_entries_are_found
        an_exact_key_goes_before_a_newer_beginning
        the_newest_entry_that_begins_so_is_found
        beginnings_are_literal
        a_cache_is_looked_for_in_the_order_of_the_refs
        a_cache_of_another_repository_or_version_is_not_found
        a_cache_that_is_found_counts_as_used
        caches_are_listed_newest_first
        the_least_recently_used_caches_are_evicted
        caches_that_nobody_uses_are_stale
        a_cache_entry_is_deleted_once
    }
    groups {
        a_new_store_has_the_default_group
        a_group_keeps_its_policy
        a_group_is_replaced_under_its_name_without_case
        a_group_belongs_to_its_very_scope
        groups_are_listed_by_scope_and_name
        a_runner_is_in_the_innermost_group_of_its_name
        a_new_group_takes_those_over_who_mean_it
        a_group_is_deleted_once
        the_default_group_is_never_deleted
        a_group_with_runners_is_not_deleted
        a_group_that_tokens_lead_to_is_not_deleted
        a_group_that_is_hidden_by_another_can_be_deleted
    }
    values {
        a_secret_is_kept_sealed
        a_secret_is_replaced_under_its_name_without_case
        a_secret_is_deleted_once
        secrets_are_listed_by_name_for_one_scope
        secrets_are_delivered_in_the_order_of_the_scopes
        values_of_an_environment_are_not_its_repositorys
        a_scope_has_a_hundred_secrets
        a_variable_keeps_its_value
        a_variable_is_replaced_under_its_name_without_case
        a_variable_is_deleted_once
        variables_come_in_the_order_of_the_scopes
        a_scope_has_five_hundred_variables
    }
    taking {
        a_new_job_is_acquired_in_the_step_that_makes_it
        a_taker_may_leave_a_job
        a_taker_is_asked_of_a_new_job_that_is_alone_and_queued
        a_job_whose_taker_is_gone_stays_queued
        a_job_that_is_taken_at_once_has_the_lines_of_both
    }
    audit {
        an_empty_audit_log_holds
        a_step_writes_the_line_that_it_is_given_with_what_it_did
        a_line_of_the_audit_log_keeps_what_happened
        the_chain_is_the_documented_one
        an_exported_log_verifies_from_its_json_alone
        the_audit_log_holds_and_names_its_head
        many_lines_at_once_make_one_chain
        equal_lines_have_different_hashes
        the_audit_log_is_listed_in_pages
        a_filtered_log_is_listed_in_pages
        the_audit_log_is_filtered_by_the_beginning_of_the_action
        the_audit_log_is_filtered_by_actor_with_or_without_name
        the_audit_log_is_filtered_by_what_a_scope_covers
        filters_are_combined
    }
    collect {
        ephemeral_runners_without_a_job_expire
        ephemeral_runners_with_a_job_do_not_expire
        runners_that_were_not_seen_for_long_are_stale
        runners_with_a_job_are_not_stale
        what_is_to_be_cleared_up_comes_in_bounded_parts
    }
    purge {
        runs_that_ended_before_are_purged_with_all_that_is_kept_of_them
        runs_that_have_not_ended_are_passed_over
        what_is_looked_at_ends_with_the_first_run_that_was_submitted_later
        numbers_and_ids_are_not_used_twice
        the_latest_number_goes_last
        the_job_that_finished_last_goes_last
        a_run_of_many_jobs_goes_in_several_steps
        many_runs_go_in_several_steps
        a_step_takes_what_is_due_and_nothing_else
        claims_and_keys_for_repeats_go_with_their_run
        what_is_left_of_deleted_registrations_is_purged
        a_job_keeps_the_name_of_a_runner_that_is_purged
        registrations_that_were_made_later_are_not_looked_at
        many_registrations_go_in_several_steps
        the_first_lines_of_the_audit_log_are_purged_and_a_line_tells
        the_chain_goes_on_when_all_lines_are_purged
        lines_behind_one_that_is_too_young_stay
        many_lines_go_in_several_steps
    }
    runs {
        a_run_begins_queued_with_its_jobs
        a_run_keeps_what_was_submitted
        runs_are_numbered_by_repository_and_path
        a_run_may_begin_without_jobs
        a_job_cannot_begin_in_an_impossible_state
        a_refused_run_leaves_nothing_behind
        a_job_that_is_listed_twice_is_added_once
        jobs_can_be_added_to_a_run
        a_job_that_exists_is_left_alone
        indices_of_a_matrix_are_different_jobs
        jobs_of_different_runs_may_share_a_key
        jobs_cannot_be_added_to_an_unknown_run
        a_refused_job_takes_its_siblings_with_it
        a_job_may_begin_completed
        a_waiting_job_is_released
        only_waiting_jobs_are_released
        a_job_keeps_its_message
        a_run_can_be_cancelled
        a_completed_run_is_not_cancelled
        an_unknown_run_cannot_be_cancelled
        a_run_is_finished_once
        an_unknown_run_cannot_be_finished
        unfinished_runs_come_with_all_their_jobs
        jobs_that_ask_for_different_runners_are_told_apart
        a_job_keeps_whether_it_is_trusted
        a_repeated_submission_answers_the_same_run
        a_repeated_submission_sees_how_far_the_run_is
        after_a_day_a_repeat_is_a_new_run
        submissions_without_or_with_other_keys_are_no_repeats
        of_many_equal_submissions_at_once_one_makes_a_run
        a_refused_submission_can_be_repeated
        a_run_is_renamed
    }
    assignment {
        an_offer_holds_a_job_for_a_runner
        an_offer_needs_a_higher_epoch
        only_queued_jobs_are_offered
        an_unknown_job_is_named_by_every_step
        a_job_is_not_offered_to_a_runner_that_is_gone
        an_offered_job_is_acquired
        a_queued_job_is_acquired_under_a_higher_epoch
        a_queued_job_is_not_acquired_under_its_own_epoch
        an_offer_is_acquired_under_its_epoch_alone
        an_offer_is_acquired_by_its_runner_alone
        only_queued_and_offered_jobs_are_acquired
        a_repeated_acquisition_answers_the_same
        a_repeated_acquisition_that_differs_is_stale
        a_repeated_acquisition_of_a_runner_that_is_gone_answers_the_same
        a_runner_that_is_gone_acquires_nothing
        of_many_that_acquire_at_once_one_succeeds
        the_first_acquisition_starts_the_run
        acquisition_clears_the_steps_of_an_earlier_attempt
        an_offered_job_is_requeued
        a_running_job_is_requeued
        a_repeated_requeue_answers_the_same
        a_repeated_requeue_that_differs_is_stale
        a_requeue_needs_the_current_epoch
        only_held_jobs_are_requeued
        a_requeued_job_keeps_its_place
        after_a_requeue_the_old_holder_is_refused
        after_a_requeue_the_next_offer_needs_a_higher_epoch
        a_job_remembers_its_runners_name
    }
    completion {
        steps_are_replaced
        steps_need_the_current_epoch
        only_running_jobs_have_their_steps_updated
        a_running_job_is_completed
        a_repeated_completion_changes_nothing
        a_run_ends_in_the_step_of_its_only_job_unless_somebody_wanted_to_stop_it
        completion_needs_the_current_epoch
        only_running_jobs_are_completed
        of_many_completions_at_once_one_counts
        jobs_are_numbered_in_order_of_completion
        completion_forgets_why_the_job_was_requeued
        the_service_concludes_a_job_in_any_other_state
        a_concluded_job_keeps_its_steps
        conclusion_by_the_service_needs_the_current_epoch
        a_completed_job_is_not_concluded
        a_late_completion_of_a_concluded_job_changes_nothing
        the_first_reason_to_cancel_is_kept
        a_completed_job_is_not_cancelled
        an_unknown_job_cannot_be_cancelled
        a_cancel_survives_a_requeue
        completion_deletes_an_ephemeral_runner
        a_refused_completion_deletes_nobody
        completion_leaves_other_runners_registered
        an_attempt_that_counted_deletes_an_ephemeral_runner
        an_assignment_given_back_leaves_an_ephemeral_runner
        an_attempt_that_counted_leaves_other_runners
        conclusion_by_the_service_deletes_an_ephemeral_runner_that_had_the_job
    }
    listing {
        what_is_unknown_is_none
        runs_are_listed_newest_first
        runs_are_listed_in_pages
        jobs_are_listed_newest_first
        jobs_are_listed_in_pages
        jobs_are_listed_by_state
        jobs_of_one_state_are_listed_in_pages
        an_empty_page_says_whether_there_is_more
        the_jobs_of_a_run_are_listed_in_order
    }
    ordering {
        a_step_is_done_when_its_future_is_dropped
        the_order_of_calls_is_the_order_of_effects
        steps_before_close_are_done
        a_closed_store_says_so
    }
}
