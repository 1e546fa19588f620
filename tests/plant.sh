#!/usr/bin/env bash
# Plants each known mistake in a copy of the tree, runs the one test that guards against it, and
# fails if that test passes. `tests/plant.sh PATTERN` plants only mistakes whose name matches.
set -euo pipefail
cd "$(dirname "$0")/.."
pattern="${1:-.}"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/plant"
planted=0
missed=()

# Copied once, so that edits meanwhile do not change what is planted into.
mkdir "$copy/base"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy/base"

restore() {
    rm -rf "$copy/tree"
    cp -r "$copy/base" "$copy/tree"
}

# plant NAME FILE PERL-SUBSTITUTION TEST-TARGET TEST-NAME
plant() {
    local name="$1" file="$2" change="$3" target="$4" test="$5"
    [[ "$name" =~ $pattern ]] || return 0
    restore
    perl -0pi -e "$change" "$copy/tree/$file"
    if cmp -s "$copy/base/$file" "$copy/tree/$file"; then
        missed+=("$name: the mistake no longer applies to $file")
        return 0
    fi
    local runner=(cargo test --quiet --all-features)
    if [ "$target" = lib ]; then runner+=(--lib); else runner+=(--test "$target"); fi
    if ! (cd "$copy/tree" && RUSTFLAGS=-Awarnings "${runner[@]}" --no-run) >"$copy/log" 2>&1; then
        cat "$copy/log"
        missed+=("$name: the mistake does not compile")
        return 0
    fi
    planted=$((planted + 1))
    if (cd "$copy/tree" && RUSTFLAGS=-Awarnings timeout 120 "${runner[@]}" "$test") >"$copy/log" 2>&1; then
        missed+=("$name: $target $test passes all the same")
        printf 'MISSED  %s\n' "$name"
    elif grep -q "running 0 tests" "$copy/log" && ! grep -q "FAILED\|panicked" "$copy/log"; then
        missed+=("$name: no test is called $test")
    else
        printf 'found   %s\n' "$name"
    fi
}

# ===== flights =====
plant share-what-may-not-be-stored src/policy/storability.rs 's/PER_CLIENT\.iter\(\)\.any\(/false \&\& PER_CLIENT.iter().any(/' flights what_may_not_be_stored_is_not_shared
plant no-second-look src/store/memory.rs 's/entry\.is_fresh\(\) && self\.shared\.sequence/false \&\& self.shared.sequence/' flights a_leader_looks_once_more_before_it_forwards
plant join-across-an-invalidation src/exchange.rs 's/\|fence\| sequence\.is_current\(&read\.slot\.key, fence\)/|_| true/' writes a_fill_that_a_write_overtakes_is_not_stored_and_late_comers_do_not_join_it
plant forget-refusals src/policy/storability.rs 's/!is_momentary && !status/false \&\& !is_momentary \&\& !status/' flights two_bursts_on_an_uncacheable_key_never_queue
plant remember-server-errors src/policy/storability.rs 's/ && !status\.is_server_error\(\)//' flights a_server_error_is_not_remembered
plant remember-refusals-for-ever src/fill.rs 's/from_secs\(10\)/from_secs(1000)/' flights a_refusal_is_forgotten_after_ten_seconds
plant wait-without-a-deadline src/exchange.rs 's/let deadline = now\(\) \+ self\.shared\.follower_wait/let deadline = now() + 1000 * self.shared.follower_wait/' flights a_follower_waits_no_longer_than_its_deadline_and_then_stores_nothing
plant join-hung-flights src/coalesce.rs 's/< self\.limits\.wait/< 1000 * self.limits.wait/' flights a_flight_that_hangs_is_not_joined_for_ever
plant older-over-newer src/store/memory.rs 's/entry\.is_older_than\(&earlier\)/false \&\& entry.is_older_than(\&earlier)/' flights an_older_fill_does_not_replace_a_newer_one
plant decline-the-abandoned src/exchange.rs 's/let mut was_abandoned = false/let mut was_abandoned = true/' flights a_panic_is_the_leaders_own_and_one_follower_leads
plant lead-one-by-one-for-ever src/exchange.rs 's/std::mem::replace\(&mut was_abandoned, true\)/std::mem::replace(\&mut was_abandoned, false)/' flights after_two_dead_fills_followers_forward_for_themselves
plant abandon-on-an-error src/exchange.rs 's/filling\.decline\(Refusal::Failed, None\)\.await/drop(filling)/' flights an_error_is_the_leaders_own_and_followers_ask_for_themselves_at_once
plant store-after-the-deadline src/entry.rs 's/now < self\.fresh_until$/now <= self.fresh_until/m' flights an_entry_is_fresh_for_its_lifetime_and_no_longer
plant lead-with-a-head-request src/exchange.rs 's/let alone = if read\.is_head \{/let alone = if false {/' flights a_head_request_is_answered_from_get_and_never_the_reverse
plant keep-the-leaders-conditional src/exchange.rs 's/request\.headers_mut\(\)\.remove\(IF_NONE_MATCH\);//' flights a_leaders_conditional_does_not_reach_the_origin
plant forget-the-response-delay src/entry.rs 's/\.saturating_add\(response_delay\)//' flights a_follower_says_that_it_collapsed_and_carries_an_age
# ===== bodies =====
plant store-incomplete-bodies src/recording.rs 's/self\.declared\.is_none_or\(\|declared\| declared == shared\.tape\.bytes\)/true/; s/declared\.is_none_or\(\|declared\| declared == self\.bytes\)/true/' streaming bodies_that_contradict_their_length_reach_the_client_and_are_not_stored
plant record-without-a-limit src/recording.rs 's/if self\.bytes > self\.limit/if false/' streaming a_body_over_the_limit_passes_byte_for_byte_with_back_pressure
plant record-what-is-declared-too-large src/recording.rs 's/if declared > limit/if false/' streaming a_declared_length_over_the_limit_is_not_recorded_at_all
plant record-without-a-budget src/recording.rs 's/if !reservation\.grow_to\(declared\)/if false/' streaming bodies_in_flight_have_a_total_budget
plant end-a-broken-body-cleanly src/body.rs 's/None => Poll::Ready\(Some\(Err\(BodyError\(Cause::Interrupted\)\)\)\)/None => Poll::Ready(None)/' streaming a_streaming_follower_shares_the_end_of_a_body_that_fails
plant end-before-storing src/fill.rs 's/(let recorded = recorder\.run\(\)\.await;)(.*?)recorder\.conclude\(\);/$1 recorder.conclude(); for _ in 0..50 { tokio::task::yield_now().await; }$2/s' streaming who_has_read_a_body_to_its_end_finds_it_stored
plant wait-for-the-whole-body src/fill.rs 's/if declared\.is_some\(\) \{/if false {/' streaming a_follower_streams_along_once_the_length_is_known_to_fit
plant share-what-may-turn-out-too-large src/fill.rs 's/if declared\.is_some\(\) \{/if true {/' streaming a_follower_of_unknown_length_waits_for_the_end
plant store-event-streams src/policy/storability.rs 's/if is_event_stream\(fields\)/if false/' streaming an_event_stream_is_neither_stored_nor_delayed
plant meddle-with-upgrades src/policy/admission.rs 's/if facts\.is_upgrade/if false/' streaming an_upgrade_is_not_the_caches_business
# ===== cancellation =====
plant drop-the-leaders-fill src/detach.rs 's/filter\(\|_\| self\.is_begun\)/filter(|_| false)/' cancellation a_thousand_requests_still_make_one_call_when_the_leader_is_cancelled_before_the_head
plant detach-what-never-began src/detach.rs 's/filter\(\|_\| self\.is_begun\)/filter(|_| true)/' cancellation a_request_that_is_dropped_before_it_began_is_never_forwarded
plant detach-without-a-bound src/shared.rs 's/MAX_DETACHED: usize = 256/MAX_DETACHED: usize = 100_000/' cancellation at_most_256_fills_live_on_without_their_callers
plant record-for-nobody-without-a-bound src/shared.rs 's/MAX_DETACHED: usize = 256/MAX_DETACHED: usize = 100_000/' cancellation at_most_256_recordings_live_on_without_readers_and_a_follower_leads_for_the_rest
plant detach-for-ever src/shared.rs 's/DETACHED_TIME: Duration = Duration::from_secs\(30\)/DETACHED_TIME: Duration = Duration::from_secs(3000)/' cancellation a_fill_without_a_caller_has_thirty_seconds
plant record-for-nobody-for-ever src/recording.rs 's/detached\.deadline\(\) <= now\(\)/false/' cancellation a_recording_without_readers_has_thirty_seconds
plant drop-a-recording-that-is-read src/recording.rs 's/shared\.readers\.is_empty\(\) && shared\.end/shared.end/' cancellation a_recording_with_a_streaming_follower_is_never_dropped
plant leave-a-dead-flight src/coalesce.rs 's/if !self\.is_settled \{/if false {/' cancellation a_panic_after_the_caller_went_away_harms_nobody
# ===== writes =====
plant do-not-invalidate src/write.rs 's/Effect::Changed => \{/Effect::Changed if false => {}\n            Effect::Changed => { return;/' writes a_write_invalidates_before_its_writer_sees_the_response
plant invalidate-on-refusal src/write.rs 's/400\.\.=499 => Self::Unchanged/400..=499 => Self::Changed/' writes a_refused_write_invalidates_nothing
plant take-errors-for-refusals src/write.rs 's/500\.\. => Self::Unknown/500.. => Self::Unchanged/' writes nothing_is_stored_for_ten_seconds_after_a_write_with_an_unknown_outcome
plant store-while-unsettled src/exchange.rs 's/if shared\.unsettled\.contains\(&read\.slot\.key\)/if false/' writes nothing_is_stored_for_ten_seconds_after_a_write_with_an_unknown_outcome
plant forget-a-panicked-write src/write.rs 's/for key in &self\.keys \{/for key in self.keys.iter().take(0) {/' writes a_write_that_panics_has_an_unknown_outcome
plant forget-an-abandoned-write src/exchange.rs 's/ResponseFuture::exchange\(Detachable::new\(exchange\.write\(keys, request\), detachments\)\)/{ let _ = detachments; ResponseFuture::exchange(exchange.write(keys, request)) }/' writes a_write_that_its_client_abandons_completes_and_invalidates
plant commit-across-an-invalidation src/sequence.rs 's/self\.is_current\(key, fence\)\.then\(store\)/Some(store())/' writes a_fill_that_a_write_overtakes_is_not_stored_and_late_comers_do_not_join_it
plant keep-the-target src/route/table.rs 's/if let Ok\(found\) = self\.reads\.at\(path\) \{\n            let rule/if let (false, Ok(found)) = (true, self.reads.at(path)) {\n            let rule/' writes a_write_to_a_cached_target_invalidates_it_without_a_rule
plant commit-across-an-invalidation-of-everything src/sequence.rs 's/self\.raise\(&self\.floor\);//' lib an_invalidation_of_everything_fences_every_key_and_visits_every_shard
# ===== history =====
plant history-commit-across src/sequence.rs 's/self\.is_current\(key, fence\)\.then\(store\)/Some(store())/' history no_read_is_stale
plant history-join-across src/exchange.rs 's/\|fence\| sequence\.is_current\(&read\.slot\.key, fence\)/|_| true/' history no_read_is_stale

# The model needs another build, so its mistake is planted apart.
if [[ model-publish-first =~ $pattern ]]; then
    restore
    perl -0pi -e 's/(        place\.store\(next, Ordering::SeqCst\);\n)(        self\.current\.store\(next, Ordering::SeqCst\);\n)/$2$1/' "$copy/tree/src/sequence.rs"
    planted=$((planted + 1))
    if cmp -s src/sequence.rs "$copy/tree/src/sequence.rs"; then
        missed+=("model-publish-first: the mistake no longer applies")
    elif (cd "$copy/tree" && bash tests/model.sh) >"$copy/log" 2>&1; then
        missed+=("model-publish-first: the model passes all the same")
    elif grep -q "stale: " "$copy/log"; then
        echo "found   model-publish-first"
    else
        missed+=("model-publish-first: it failed for another reason")
    fi
fi

echo "planted $planted mistakes, ${#missed[@]} not found"
if [ ${#missed[@]} -gt 0 ]; then printf '%s\n' "${missed[@]}"; exit 1; fi
