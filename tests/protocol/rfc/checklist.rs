//! Every rule of the checklist has its rows or its test.

use std::collections::BTreeSet;

use super::{cache_status, freshness, reuse, storing, targeted, validation};

const TESTED: &[(&str, &str)] = &[
    ("3.1 method", "a_head_request_fills_nothing"),
    ("3.1 status", "statuses_that_are_parts_of_a_response_cannot_be_configured"),
    ("3.1 fields", "fields_keep_their_order"),
    ("3.1 date", "a_response_without_a_date_is_dated_and_a_304_renews_the_date"),
    ("3.1 trailers", "trailers_do_not_become_fields"),
    ("3.1 incomplete", "an_incomplete_response_is_not_stored"),
    ("3.2 vary", "several_stored_variants_answer_each_its_own"),
    ("3.2 age", "a_response_that_took_its_time_is_that_much_older"),
    ("3.2 unsafe methods", "a_write_is_forwarded_before_it_is_answered"),
    ("3.2 collapsed", "a_request_that_waits_takes_only_what_may_be_stored"),
    ("3.3 conditionals taken off", "a_conditional_miss_brings_the_whole_representation_for_all"),
    (
        "3.1 partial responses",
        "a_range_that_nothing_stored_answers_is_forwarded_as_it_is_and_stored_nowhere",
    ),
    ("3.2 ranges", "a_part_of_what_is_stored_is_a_206"),
    ("3.2 several ranges", "several_parts_are_a_multipart_body"),
    ("3.2 unsatisfiable ranges", "what_is_beyond_the_end_is_a_416_that_no_cache_keeps"),
    ("3.3 If-Range", "a_part_is_sent_only_of_what_if_range_names"),
    ("3.2 stored no-cache is validated", "what_is_never_fresh_is_asked_about_by_each_request"),
    ("3.3 revalidation", "a_304_makes_what_is_stored_fresh_again"),
    (
        "3.3 revalidation by the matching validator",
        "a_304_is_believed_only_if_it_is_about_what_is_stored",
    ),
    ("3.3 revalidation overtaken", "a_304_that_an_invalidation_overtakes_freshens_nothing"),
    ("3.3 agreeing HEAD", "a_head_that_agrees_with_what_is_stored_makes_it_fresh_again"),
    ("3.3 contradicting HEAD", "a_head_that_contradicts_what_is_stored_makes_it_stale"),
    ("3.2 stale on purpose", "what_is_stale_answers_at_once_and_one_request_asks_about_it"),
    ("3.2 disconnected", "what_must_be_revalidated_never_answers_stale"),
    ("3.5 stale-while-revalidate", "the_window_ends"),
    ("3.5 stale-if-error", "what_is_stale_stands_in_for_an_error_and_all_who_wait_share_it"),
    ("3.4 target", "a_successful_write_invalidates_all_variants_of_its_target"),
    ("3.4 errors", "what_changed_nothing_invalidates_nothing"),
    ("3.4 location", "a_write_invalidates_what_its_response_names_at_the_same_origin"),
    ("3.4 removed", "a_successful_write_invalidates_all_variants_of_its_target"),
    ("3.4 Cache-Groups", "a_group_is_invalidated_by_its_string_at_its_origin"),
    ("3.4 malformed groups", "a_malformed_list_of_groups_is_as_good_as_none"),
    ("3.4 how many groups", "as_many_groups_as_must_be_are_kept"),
    ("3.4 groups do not cascade", "groups_do_not_cascade"),
    ("3.4 Cache-Group-Invalidation", "only_a_write_that_succeeds_invalidates_a_group"),
    ("3.4 groups of tenants", "a_group_is_invalidated_by_its_string_at_its_origin"),
    ("3.4 groups and 304", "a_304_changes_the_groups_it_names"),
    ("3.8 key of a QUERY", "the_key_of_a_query_has_its_content_and_metadata"),
    ("3.8 subsequent QUERY alone", "a_response_to_a_query_answers_queries_of_its_target_alone"),
    ("3.8 media type", "a_query_without_a_media_type_is_the_origins"),
    ("3.8 safe", "a_query_invalidates_nothing"),
    (
        "3.8 Content-Location, Location, Accept-Query",
        "fields_that_name_other_resources_are_the_clients",
    ),
    ("3.8 redirections", "a_redirection_of_a_query_is_stored_as_it_says"),
    ("3.8 conditional QUERY", "a_conditional_query_is_answered_from_the_result_of_its_own_content"),
    ("3.8 forms of content", "a_form_of_the_content_is_for_the_key_alone"),
    ("3.8 ranges of a QUERY", "a_range_of_the_result_of_a_query_is_a_part_of_it"),
    ("3.7 own answers", "an_answer_of_the_caches_own_has_no_cache_status"),
    ("3.7 nothing of the key", "no_key_and_no_target_are_in_cache_status"),
];

const CHECKLIST: &[&str] = &[
    "3.1 method",
    "3.1 status",
    "3.1 no-store",
    "3.1 must-understand",
    "3.1 private",
    "3.1 authorization",
    "3.1 request no-store",
    "3.1 route ttl",
    "3.1 explicit or heuristic freshness",
    "3.1 fields",
    "3.1 date",
    "3.1 trailers",
    "3.1 incomplete",
    "3.1 partial responses",
    "3.1 set-cookie",
    "3.1 delta-seconds",
    "3.1 freshness precedence",
    "3.1 heuristics",
    "3.2 match",
    "3.2 vary",
    "3.2 no-cache",
    "3.2 stored no-cache is validated",
    "3.2 age",
    "3.2 unsafe methods",
    "3.2 collapsed",
    "3.2 stale",
    "3.2 stale on purpose",
    "3.2 disconnected",
    "3.2 request directives",
    "3.2 ranges",
    "3.2 several ranges",
    "3.2 unsatisfiable ranges",
    "3.3 what is evaluated",
    "3.3 If-Range",
    "3.3 order and comparison",
    "3.3 date",
    "3.3 fields of a 304",
    "3.3 a 304 is a hit",
    "3.3 conditionals taken off",
    "3.3 revalidation",
    "3.3 revalidation by the matching validator",
    "3.3 revalidation overtaken",
    "3.3 agreeing HEAD",
    "3.3 contradicting HEAD",
    "3.4 target",
    "3.4 errors",
    "3.4 location",
    "3.4 removed",
    "3.4 Cache-Groups",
    "3.4 malformed groups",
    "3.4 how many groups",
    "3.4 groups do not cascade",
    "3.4 Cache-Group-Invalidation",
    "3.4 groups of tenants",
    "3.4 groups and 304",
    "3.5 stale-while-revalidate",
    "3.5 stale-if-error",
    "3.6 target list",
    "3.6 dictionary",
    "3.6 directives",
    "3.6 downstream",
    "3.7 grammar",
    "3.7 appended",
    "3.7 own answers",
    "3.7 nothing of the key",
    "3.8 key of a QUERY",
    "3.8 subsequent QUERY alone",
    "3.8 media type",
    "3.8 safe",
    "3.8 Content-Location, Location, Accept-Query",
    "3.8 redirections",
    "3.8 conditional QUERY",
    "3.8 forms of content",
    "3.8 ranges of a QUERY",
];

const SOURCES: &[&str] = &[
    include_str!("cache_status.rs"),
    include_str!("freshness.rs"),
    include_str!("groups.rs"),
    include_str!("invalidation.rs"),
    include_str!("query.rs"),
    include_str!("ranges.rs"),
    include_str!("reuse.rs"),
    include_str!("revalidation.rs"),
    include_str!("../../it/stale.rs"),
    include_str!("storing.rs"),
    include_str!("targeted.rs"),
    include_str!("validation.rs"),
];

#[test]
fn every_line_is_tested() {
    let rows = [
        freshness::rows(),
        targeted::rows(),
        storing::rows(),
        reuse::rows(),
        validation::rows(),
        cache_status::rows(),
    ];
    let of_rows = rows.iter().flatten().map(|row| row.line);
    let tested: BTreeSet<_> = of_rows.chain(TESTED.iter().map(|(line, _)| *line)).collect();
    let all: BTreeSet<_> = CHECKLIST.iter().copied().collect();
    let missing: Vec<_> = all.difference(&tested).collect();
    assert!(missing.is_empty(), "not tested: {missing:?}");
    let unlisted: Vec<_> = tested.difference(&all).collect();
    assert!(unlisted.is_empty(), "not in the checklist: {unlisted:?}");
    assert_eq!(all.len(), CHECKLIST.len(), "a line stands twice");
}

#[test]
fn every_test_that_a_line_names_is_there() {
    for (line, test) in TESTED {
        let is_there = SOURCES.iter().any(|source| source.contains(&format!("fn {test}()")));
        assert!(is_there, "{line}: no test is called {test}");
    }
}
