//! What is fuzzed, from which seeds and words, and which rules must hold for any input.

mod bodies;
mod heads;
mod http2;
mod layer4;
mod passed;
mod plans;
mod reference;
mod requests;
mod routes;
mod tokens;

/// One entry point.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Well-formed input to begin from.
    pub seeds: &'static [&'static [u8]],
    /// What its parser treats in a way of its own; mutations put these words in.
    pub words: &'static [&'static [u8]],
    /// Runs an input; the rule it breaks, if it breaks one.
    pub check: fn(&[u8]) -> Result<(), String>,
}

/// All entry points.
pub const TARGETS: [&Target; 15] = [
    &layer4::PROXY_HEADER,
    &layer4::CLIENT_HELLO,
    &heads::REQUEST,
    &heads::RESPONSE,
    &http2::REQUEST,
    &http2::BLOCK,
    &http2::FRAMES,
    &bodies::CHUNKED,
    &bodies::RESPONSE,
    &requests::STREAM,
    &routes::PATH,
    &routes::ROUTE,
    &plans::PLAN,
    &passed::PASSED,
    &tokens::TOKEN,
];

/// The rule's text unless it holds.
fn rule(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.to_owned()) }
}
