//! What the layer does over HTTP, written once for every backend.
//!
//! A test is a function that takes an empty [`BoxBackend`](tower_idempotency::BoxBackend). `tests/memory.rs` and its
//! likes run all of them over one backend with `suite!(expression)`. A function that is missing below is dead code, and
//! the compiler says so.

pub(crate) mod abandonment;
pub(crate) mod body_hash;
pub(crate) mod concurrency;
pub(crate) mod differential;
pub(crate) mod hostile;
pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod mismatch;
pub(crate) mod outcomes;
pub(crate) mod replay;
pub(crate) mod streams;
pub(crate) mod support;
pub(crate) mod waiting;

/// Runs every test over backends that `$backend` makes, one for each.
macro_rules! suite {
    ($backend:expr) => {
        suite! {
            $backend =>
            concurrency:
                of_a_thousand_concurrent_duplicates_one_runs,
                a_thousand_distinct_keys_run_at_once;
            differential:
                a_first_response_is_what_it_would_be_without_the_layer;
            hostile:
                a_body_longer_than_declared_is_cut_and_the_rest_does_not_run,
                a_body_shorter_than_declared_leaves_nothing,
                a_length_that_is_none_leaves_nothing,
                a_chunk_that_is_none_leaves_nothing,
                a_client_that_expects_100_gets_it_and_then_its_answer,
                a_client_that_expects_100_is_refused_before_it_sends_its_body,
                pipelined_duplicates_are_answered_in_order,
                of_a_hundred_duplicates_on_one_http2_connection_one_runs,
                a_key_cannot_carry_another_header,
                a_namespace_may_be_any_text,
                a_huge_head_leaves_nothing,
                http_1_0_is_served;
            waiting:
                a_thousand_waiters_get_one_answer,
                a_waiter_takes_over_from_a_run_that_fails,
                waiters_that_hang_up_are_gone,
                a_wait_that_takes_too_long_is_refused;
            replay:
                a_replay_equals_the_first_response,
                a_replay_has_the_same_bytes_on_the_wire,
                a_replay_of_an_answer_to_head_says_the_same_length,
                large_encoded_and_framed_bodies_are_replayed_byte_for_byte,
                what_belongs_to_one_connection_or_moment_is_not_replayed,
                markers_that_are_not_the_layers_own_are_stripped;
            streams:
                a_stream_reaches_its_client_chunk_by_chunk,
                a_response_above_the_limit_arrives_whole_and_is_not_kept,
                a_declared_length_makes_a_stream_recordable,
                trailers_of_a_response_of_known_length_are_replayed,
                trailers_are_replayed_over_http1,
                a_body_that_exceeds_its_declared_length_is_cut_there,
                a_body_that_ends_before_its_declared_length_closes_the_connection,
                a_body_that_ends_before_its_declared_length_does_not_claim_another,
                a_response_body_that_fails_midway_releases_its_key;
            mismatch:
                another_request_with_a_completed_key_is_refused,
                another_request_with_a_key_in_progress_is_refused,
                spellings_of_one_authority_are_one_authority,
                #[cfg(feature = "axum")] nested_routers_with_one_key_do_not_share_a_record;
            keys:
                accepted_keys_run_once,
                spellings_of_one_key_are_one_key,
                refused_keys_leave_nothing,
                requests_without_a_key_run_each_time,
                methods_that_are_not_covered_run_each_time,
                a_required_key_that_is_missing_is_refused,
                namespaces_are_separate;
            body_hash:
                the_same_request_of_one_caller_runs_once_over_both_protocols,
                strangers_never_share_an_answer,
                a_body_above_the_limit_reaches_the_handler_whole;
            limits:
                a_declared_length_above_the_limit_is_refused_before_the_body_is_read,
                a_chunked_body_above_the_limit_is_refused_while_it_is_read,
                a_body_of_exactly_the_limit_runs,
                a_body_that_ends_too_early_leaves_nothing,
                a_body_that_is_not_http_leaves_nothing,
                a_body_whose_stream_is_reset_leaves_nothing,
                a_slow_upload_holds_no_claim,
                an_upload_that_an_outer_timeout_ends_leaves_nothing;
            abandonment:
                a_run_outlives_an_http1_client_that_closes,
                a_run_outlives_an_http1_client_that_half_closes,
                a_run_outlives_an_http2_stream_that_is_reset,
                a_run_outlives_an_outer_timeout,
                a_run_can_be_cancelled_when_its_client_leaves,
                a_client_that_leaves_a_response_half_read_does_not_lose_it,
                a_panic_after_the_client_has_left_keeps_the_key,
                a_panic_after_the_client_has_left_keeps_the_key_until_the_lease_ends;
            outcomes:
                a_panic_releases_its_key,
                a_failure_that_passes_is_not_recorded,
                a_final_answer_is_recorded,
                an_error_of_the_service_passes_unchanged_and_releases_its_key,
                at_most_once_a_failure_is_recorded,
                at_most_once_a_panic_keeps_its_key,
                at_most_once_an_error_of_the_service_keeps_its_key;
            lease:
                a_run_that_outlives_its_lease_tenfold_runs_once,
                a_handler_that_blocks_its_thread_runs_once,
                a_handler_that_blocks_its_thread_keeps_its_key_from_other_nodes,
                a_handler_that_blocks_a_thread_of_a_busy_layer_keeps_its_key,
                a_layer_that_is_applied_twice_runs_once,
                clones_of_a_layer_share_their_claims;
        }
    };
    ($backend:expr => $($subject:ident: $($(#[$attribute:meta])* $name:ident),+;)+) => {$(
        mod $subject {$(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let test = crate::behaviour::$subject::$name($backend);
                crate::behaviour::support::bounded(test).await;
            }
        )+}
    )+};
}
