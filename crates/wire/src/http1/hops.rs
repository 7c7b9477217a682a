//! `Max-Forwards` of TRACE and OPTIONS, the methods that ask about the way itself
//! (RFC 9110 §7.6.2). Other methods may carry the field; it means nothing there.

use super::head::RequestHead;

/// What the recipient of a request does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// It may be forwarded.
    Forward,
    /// It has come to its end here.
    Last,
}

/// Counts this recipient: lowers the number where it stands, or says that it was 0 on arrival.
/// `base` is the buffer given to the parser.
///
/// # Errors
/// The field is repeated or no whole number.
pub fn count(head: &RequestHead, base: &mut [u8]) -> Result<Hop, &'static str> {
    if !matches!(head.method.get(base), b"TRACE" | b"OPTIONS") {
        return Ok(Hop::Forward);
    }
    let mut fields = head.fields.iter().filter(|field| {
        let name = field.name.get(base);
        name.eq_ignore_ascii_case(b"max-forwards")
    });
    let Some(field) = fields.next() else {
        return Ok(Hop::Forward);
    };
    if fields.next().is_some() {
        return Err("Max-Forwards is repeated.");
    }
    let digits = field.value.get_mut(base);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("Max-Forwards is not a whole number.");
    }
    let Some(lowered) = digits.iter().rposition(|&digit| digit != b'0') else {
        return Ok(Hop::Last);
    };
    digits[lowered] -= 1;
    digits[lowered + 1..].fill(b'9');
    // White space before a value is none of it.
    let zeros = digits[..digits.len() - 1].iter();
    let leading = zeros.take_while(|&&digit| digit == b'0').count();
    digits[..leading].fill(b' ');
    Ok(Hop::Forward)
}
