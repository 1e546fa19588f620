//! The suite: all rules, one after the other.

use super::{entries, fills, invalidations, race, tags};
use crate::store::Store;

/// Checks all rules of a store, each on a store of its own. `make` creates an empty one that nothing
/// else uses.
///
/// ```
/// use tower_support_cache::{MemoryStore, store::conformance};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// conformance::check(async || MemoryStore::new()).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the store breaks a rule. The message names the rule.
pub async fn check<St: Store>(make: impl AsyncFn() -> St) {
    entries::an_entry_is_found_by_its_own_variant(&make().await).await;
    entries::an_inspection_finds_what_is_stored(&make().await).await;
    entries::a_pass_entry_is_found(&make().await).await;
    fills::a_fill_finds_what_another_has_stored(&make().await).await;
    fills::a_fill_does_not_find_what_its_request_has_seen(&make().await).await;
    entries::a_stale_entry_is_replaced(&make().await).await;
    entries::an_older_response_does_not_replace_a_newer_one(&make().await).await;
    fills::a_right_given_back_is_granted_again(&make().await).await;
    invalidations::an_invalidation_removes_all_variants_of_its_key(&make().await).await;
    invalidations::an_invalidation_voids_fills_in_flight(&make().await).await;
    invalidations::an_invalidation_of_everything_leaves_nothing(&make().await).await;
    invalidations::a_soft_invalidation_leaves_nothing_fresh(&make().await).await;
    tags::an_invalidation_of_a_tag_removes_what_has_it(&make().await).await;
    tags::an_invalidation_of_a_tag_voids_fills_in_flight(&make().await).await;
    tags::a_soft_invalidation_of_a_tag_leaves_nothing_fresh(&make().await).await;
    invalidations::an_invalidation_is_in_force_before_it_is_polled(&make().await).await;
    entries::a_note_is_stored_with_its_entry(&make().await).await;
    entries::a_refusal_replaces_no_response_that_may_answer(&make().await).await;
    invalidations::a_response_that_was_read_often_is_found_only_while_it_is_there(&make().await)
        .await;
    invalidations::a_removed_entry_is_released(&make().await).await;
    race::invalidations_win_races(make().await).await;
}
