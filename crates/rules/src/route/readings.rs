//! What else a path may be read as.
//!
//! Routes compare paths in their normal form (RFC 3986 §6.2.2), but backends read more into a path:
//! they take `%2F` or `\` for a separator, drop what follows `;` in a segment, decode twice, or do
//! these things in another order. A path is contained in its route when none of these readings leads
//! out of it: out of the leading segments that the route asks for, or to a more specific route.

use memchr::{memchr, memchr3, memmem};

use crate::route::normal_path;

/// The most readings of one path; a path with more is not contained.
const MAX_READINGS: usize = 64;
/// The most bytes of all readings of one path together, so that a long path costs no more than
/// several short ones.
const MAX_BYTES: usize = 128 * 1024;
/// How often a backend and what stands behind it decode percent-encoding.
const MAX_DECODINGS: u8 = 2;

/// Whether a path has one reading only, the normal form.
pub fn is_plain(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some(at) = memchr3(b'%', b'\\', b';', rest) {
        if rest[at] != b'%' || may_separate(&rest[at..]) {
            return false;
        }
        rest = &rest[at + 3..];
    }
    // Dot segments lead elsewhere where empty segments count.
    memmem::find(path, b"//").is_none() || memmem::find(path, b"/.").is_none()
}

/// Whether an escape decodes to a character that gives a path its structure, or is none.
fn may_separate(escape: &[u8]) -> bool {
    decoded(escape).is_none_or(|byte| b"%./;\\".contains(&byte))
}

/// Whether some reading has a separator that is not a plain `/` in the path: an escaped slash, a
/// backslash, or either of them encoded twice.
pub fn hides_separator(path: &[u8]) -> bool {
    let once = decode(path);
    let twice = decode(&once);
    let slashes = |path: &[u8]| memchr::memchr_iter(b'/', path).count();
    memchr(b'\\', &twice).is_some() || slashes(&twice) > slashes(path)
}

/// Whether `holds` says so of every reading of `rest`, in normal form, behind `fixed`. What has too
/// many readings does not hold.
pub fn all_hold(fixed: &[u8], rest: &[u8], mut holds: impl FnMut(&[u8]) -> bool) -> bool {
    // Each reading with how often it was decoded; those behind `next` are still to be read further.
    let mut readings: Vec<(Vec<u8>, u8)> = vec![(rest.to_vec(), 0)];
    let mut bytes = rest.len();
    let mut whole = Vec::with_capacity(fixed.len() + rest.len());
    let mut next = 0;
    while next < readings.len() {
        let (reading, decodings) = readings[next].clone();
        next += 1;
        whole.clear();
        whole.extend_from_slice(fixed);
        whole.extend_from_slice(&reading);
        if !holds(&normal_path(&whole)) {
            return false;
        }
        let mut further = vec![
            (slashes_for_backslashes(&reading), decodings),
            (without_parameters(&reading), decodings),
            (folded(&reading), decodings),
            (resolved(&reading), decodings),
        ];
        if decodings < MAX_DECODINGS {
            further.push((decode(&reading), decodings + 1));
        }
        for (new, decodings) in further {
            // The same text decoded less often may still be decoded more often.
            let known = readings
                .iter()
                .any(|(old, times)| *times <= decodings && *old == new);
            if !known {
                bytes += new.len();
                if readings.len() == MAX_READINGS || bytes > MAX_BYTES {
                    return false;
                }
                readings.push((new, decodings));
            }
        }
    }
    true
}

/// The path as the policy `decode` has it routed and forwarded: escaped slashes and backslashes
/// become `/` and the dot segments that come to light are resolved. It is written over the path
/// itself, never longer. Answers the new length.
pub fn decode_in_place(path: &mut [u8]) -> usize {
    let mut to = 0;
    let mut from = 0;
    let mut changed = false;
    while from < path.len() {
        let hidden = match decoded(&path[from..]) {
            Some(b'/' | b'\\') => 3,
            _ if path[from] == b'\\' => 1,
            _ => 0,
        };
        path[to] = if hidden > 0 { b'/' } else { path[from] };
        changed |= hidden > 0;
        from += hidden.max(1);
        to += 1;
    }
    if !changed {
        return path.len();
    }
    let resolved = resolved(&path[..to]);
    let mut kept = &resolved[..];
    // Above the root there is nothing.
    while let Some(below @ ([] | [b'/', ..])) = kept.strip_prefix(b"/..") {
        kept = below;
    }
    let kept = if kept.is_empty() { b"/" } else { kept };
    path[..kept.len()].copy_from_slice(kept);
    kept.len()
}

/// The byte that an escape at the beginning of `text` stands for.
fn decoded(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else {
        return None;
    };
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

/// Percent-encoding undone where it can change how a path is divided: of what gives it structure,
/// and of unreserved characters, which may be digits of another escape. The rest stays, so that the
/// outcome compares with routes as normal paths do.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(&first) = rest.first() {
        let (byte, used) = match decoded(rest) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~%/;\\".contains(&byte) => (byte, 3),
            _ => (first, 1),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    out
}

fn slashes_for_backslashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    for byte in &mut out {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    out
}

/// Without what follows `;` in each segment (RFC 3986 §3.3).
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (at, segment) in path.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        let end = memchr(b';', segment).unwrap_or(segment.len());
        out.extend_from_slice(&segment[..end]);
    }
    out
}

/// With `//` folded.
fn folded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || out.last() != Some(&b'/') {
            out.push(byte);
        }
    }
    out
}

/// With `.` and `..` resolved and empty segments counted (RFC 3986 §5.2.4). What begins within a
/// path stays within it only as far as it does not climb out: such a reading keeps its `..`.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    let first = segments.next().unwrap_or_default();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => match stack.last() {
                Some(&b"..") | None => stack.push(segment),
                Some(_) => {
                    stack.pop();
                }
            },
            _ => stack.push(segment),
        }
        if last && matches!(segment, b"." | b"..") && stack.last() != Some(&&b".."[..]) {
            stack.push(b"");
        }
    }
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(first);
    for segment in stack {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    out
}
