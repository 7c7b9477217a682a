//! A second reading of HTTP/1.1, written for clearness alone, to compare the engine's with.
//!
//! It shares no code with the engine and knows the strict form only: where it reads a message, there
//! is no other reading.

/// A head's fields: names in lower case, values without blanks around. `None`: it is no head in
/// strict form.
pub fn lines(head: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = split_lines(head).into_iter();
    lines.next()?;
    lines
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = String::from_utf8(line[..colon].to_ascii_lowercase()).ok()?;
            let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(is_token) {
                return None;
            }
            let value = line[colon + 1..].trim_ascii().to_vec();
            let fits = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            value.iter().all(fits).then_some((name, value))
        })
        .collect()
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// The data of a chunked body and what follows it. `None`: it is not whole, or not in strict form.
pub fn chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut data = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let end = line
            .iter()
            .position(|&byte| byte == b';')
            .unwrap_or(line.len());
        let digits = std::str::from_utf8(&line[..end]).ok()?;
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        bytes = rest;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, rest) = line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some((data, bytes));
        }
        lines(&[b"x\r\n", line, b"\r\n\r\n"].concat())?;
    }
}

/// A line that ends in CRLF and has neither within, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let feed = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = bytes[..feed].strip_suffix(b"\r")?;
    (!line.contains(&b'\r')).then_some((line, &bytes[feed + 1..]))
}

/// The requests of a stream, each as its body, as far as they are whole and in strict form; to be
/// used on what the engine wrote, which must be nothing else.
pub fn requests(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let (head, rest) = bytes.split_at(end);
        let fields = lines(head)?;
        let all = |name: &str| -> Vec<&[u8]> {
            let named = fields.iter().filter(|(field, _)| field == name);
            named.map(|(_, value)| &value[..]).collect()
        };
        let (body, rest) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => (Vec::new(), rest),
            ([length], []) => {
                let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
                (rest.get(..length)?.to_vec(), &rest[length..])
            }
            ([], [b"chunked"]) => chunked(rest)?,
            _ => return None,
        };
        bodies.push(body);
        bytes = rest;
    }
    Some(bodies)
}
