//! Regular expressions that members subscribe by, and the topics that they match.
//!
//! Kafka's are RE2's. A topic must match as a whole; internal topics match too.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::{ErrorCode, Str};
use regex::{Regex, RegexBuilder};

use super::Context;
use super::group::ConsumerGroup;
use super::record::{Change, ConsumerRecord, ResolvedRegex};
use super::topics::Topics;
use crate::Refusal;

/// What one compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// Groups look through all topics at most this often, however often topics change.
const REFRESH_INTERVAL_MS: i64 = 1_000;

/// Refused if the expression does not compile, with the reason.
pub fn check(pattern: &str) -> Result<(), Refusal> {
    compile(pattern).map(|_| ()).map_err(|error| {
        let reason = error.to_string();
        // The reason stands in the last line, below a drawing of the place.
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}.");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)(b` must not become an expression by what is put around it.
    RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build()?;
    RegexBuilder::new(&format!("\\A(?:{pattern})\\z")).size_limit(COMPILED_BYTES_MAX).build()
}

fn resolve(patterns: &[&Str], topics: &dyn Topics) -> BTreeMap<Str, BTreeSet<Str>> {
    let compiled = patterns.iter().filter_map(|pattern| Some((compile(pattern).ok()?, (*pattern).clone())));
    let mut resolved: Vec<(Regex, Str, BTreeSet<Str>)> =
        compiled.map(|(regex, pattern)| (regex, pattern, BTreeSet::new())).collect();
    topics.visit_names(&mut |name| {
        for (regex, _, matched) in &mut resolved {
            if regex.is_match(name) {
                matched.insert(Str::from(name));
            }
        }
    });
    resolved.into_iter().map(|(_, pattern, matched)| (pattern, matched)).collect()
}

impl ConsumerGroup {
    /// Brings the resolved expressions up to date; true if some now match other topics.
    pub(super) fn refresh_regexes(&mut self, context: &Context<'_>, records: &mut Vec<ConsumerRecord>) -> bool {
        let is_unused = |regex: &&Str| !self.regex_users.contains_key(*regex);
        let unused: Vec<Str> = self.regexes.keys().filter(is_unused).cloned().collect();
        for regex in unused {
            self.write(Change::Regex { regex, resolved: None }, records);
        }
        let version = context.topics.version();
        let is_new = |regex: &&Str| !self.regexes.contains_key(*regex);
        let is_due = self.seen.regexes_version != Some(version)
            && (context.now_ms - self.seen.regexes_refreshed_ms).abs() >= REFRESH_INTERVAL_MS;
        let used = self.regex_users.keys();
        let wanted: Vec<&Str> = if is_due { used.collect() } else { used.filter(is_new).collect() };
        if wanted.is_empty() {
            return false;
        }
        let resolved = resolve(&wanted, context.topics);
        if is_due {
            self.seen.regexes_version = Some(version);
            self.seen.regexes_refreshed_ms = context.now_ms;
        }
        let mut has_changed = false;
        for (regex, topics) in resolved {
            let before = self.regexes.get(&regex);
            if before.is_some_and(|before| before.topics == topics) {
                continue;
            }
            has_changed |= before.is_some() || !topics.is_empty();
            let resolved = ResolvedRegex { topics, version: version as i64, timestamp_ms: context.now_ms };
            self.write(Change::Regex { regex, resolved: Some(resolved) }, records);
        }
        has_changed
    }
}
