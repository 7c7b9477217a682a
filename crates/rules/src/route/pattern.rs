//! Regular expressions: matched in linear time, anchored at both ends, bounded in size.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// The most memory that one expression may take when compiled.
const ONE_BYTES: usize = 1024 * 1024;
/// The most that all expressions of one host may take together.
const ALL_BYTES: usize = 64 * 1024 * 1024;
/// What a thread remembers of matching before it forgets and begins anew.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// An expression that must take all of a text.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    // By itself first: the parentheses of the anchored form shall not close what is open here.
    let compiled = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(ONE_BYTES)
        .build()
        .and_then(|_| {
            RegexBuilder::new(&whole(pattern))
                .unicode(false)
                .size_limit(ONE_BYTES)
                .dfa_size_limit(CACHE_BYTES)
                .build()
        });
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let detail = last.trim_start_matches("error: ");
            format!("not a regular expression: {detail}")
        }
    })
}

/// Expressions, each valid by itself, that are matched all at once.
///
/// # Errors
/// They are too large together.
pub fn anchored_set<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<RegexSet, String> {
    RegexSetBuilder::new(patterns.map(whole))
        .unicode(false)
        .size_limit(ALL_BYTES)
        .dfa_size_limit(CACHE_BYTES)
        .build()
        .map_err(|_| "the regular expressions of one host are too large together".into())
}
