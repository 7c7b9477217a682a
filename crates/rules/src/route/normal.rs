//! One spelling for a path, whatever a request makes of it.

use std::borrow::Cow;

/// The path as routes see it: with the percent-encoding of unreserved characters undone and that of
/// others in upper case, `//` folded, and `.` and `..` resolved (RFC 3986 §6.2.2), so that no other
/// spelling of a path leads around a route. What is forwarded stays as it was sent.
pub fn normal_path(path: &[u8]) -> Cow<'_, [u8]> {
    let plain = !path.contains(&b'%')
        && memchr::memmem::find(path, b"/.").is_none()
        && memchr::memmem::find(path, b"//").is_none();
    if plain {
        return Cow::Borrowed(path);
    }
    let decoded = normal_encoding(path);
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b"" if !last => {}
            b"." => out.push(b'/'),
            b".." => {
                let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                out.truncate(parent);
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Cow::Owned(out)
}

fn normal_encoding(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            let byte = high << 4 | low;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(byte);
            } else {
                out.extend_from_slice(&rest[..3].to_ascii_uppercase());
            }
            rest = after;
            continue;
        }
        if *first == b'%' {
            // A `%` that begins no escape must not form one with what is decoded behind it, or the
            // normal form would have another normal form.
            out.extend_from_slice(b"%25");
        } else {
            out.push(*first);
        }
        rest = tail;
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}
