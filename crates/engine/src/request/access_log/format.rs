//! The text of one line. Whatever clients send, a line stays one line and parses as what it is.

use std::io::Write;
use std::net::IpAddr;

use evenflow_rules::plan::AccessFormat;

use super::record::Record;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Formats records, and remembers the text of the current second.
#[derive(Debug)]
pub(super) struct Formatter {
    format: AccessFormat,
    second: u64,
    second_text: Vec<u8>,
}

impl Formatter {
    pub(super) fn new(format: AccessFormat) -> Self {
        Self {
            format,
            second: u64::MAX,
            second_text: Vec::new(),
        }
    }

    pub(super) fn format(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.turn_to(record.time_ns / 1_000_000_000);
        match self.format {
            AccessFormat::Json => json_line(record, &self.second_text, out),
            AccessFormat::Combined => combined_line(record, &self.second_text, out),
        }
    }

    fn turn_to(&mut self, second: u64) {
        if second == self.second {
            return;
        }
        self.second = second;
        self.second_text.clear();
        let (year, month, day) = civil_date(second / 86_400);
        let (hours, minutes, seconds) = (second / 3600 % 24, second / 60 % 60, second % 60);
        let out = &mut self.second_text;
        // Writing to a vector cannot fail.
        let _ = match self.format {
            AccessFormat::Json => {
                write!(
                    out,
                    "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}"
                )
            }
            AccessFormat::Combined => {
                let month = MONTHS[month as usize - 1];
                write!(
                    out,
                    "{day:02}/{month}/{year:04}:{hours:02}:{minutes:02}:{seconds:02} +0000"
                )
            }
        };
    }
}

fn json_line(record: &Record<'_>, second: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second);
    out.push(b'.');
    three_digits(out, record.time_ns / 1_000_000 % 1000);
    out.extend_from_slice(b"Z\",\"request_id\":\"");
    json_text(out, record.request_id);
    out.extend_from_slice(b"\",\"client\":\"");
    client(out, record);
    if !record.user.is_empty() {
        out.extend_from_slice(b"\",\"user\":\"");
        json_text(out, record.user);
    }
    out.extend_from_slice(b"\",\"method\":\"");
    json_text(out, record.method);
    out.extend_from_slice(b"\",\"host\":\"");
    json_text(out, record.host);
    out.extend_from_slice(b"\",\"path\":\"");
    json_text(out, record.target);
    out.extend_from_slice(b"\",\"status\":");
    number(out, record.status.into());
    out.extend_from_slice(b",\"bytes\":");
    number(out, record.bytes_sent);
    out.extend_from_slice(b",\"bytes_received\":");
    number(out, record.bytes_received);
    out.extend_from_slice(b",\"route\":\"");
    json_text(out, record.route.as_bytes());
    out.extend_from_slice(b"\",\"pool\":\"");
    json_text(out, record.pool.as_bytes());
    out.extend_from_slice(b"\",\"backend_id\":\"");
    json_text(out, record.backend_id.as_bytes());
    out.extend_from_slice(b"\",\"attempts\":");
    number(out, record.attempts.into());
    if !record.hedge.is_empty() {
        out.extend_from_slice(b",\"hedge\":\"");
        out.extend_from_slice(record.hedge.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b",\"latency_ms\":");
    number(out, record.latency_ns / 1_000_000);
    out.push(b'.');
    three_digits(out, record.latency_ns / 1000 % 1000);
    out.extend_from_slice(b",\"reason\":\"");
    json_text(out, record.reason.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn combined_line(record: &Record<'_>, second: &[u8], out: &mut Vec<u8>) {
    client(out, record);
    out.extend_from_slice(b" - ");
    if record.user.is_empty() {
        out.push(b'-');
    }
    for (index, word) in record.user.split(|&byte| byte == b' ').enumerate() {
        if index > 0 {
            // A blank would end the field.
            out.extend_from_slice(b"\\x20");
        }
        quoted_text(out, word);
    }
    out.extend_from_slice(b" [");
    out.extend_from_slice(second);
    out.extend_from_slice(b"] \"");
    quoted_text(out, record.method);
    out.push(b' ');
    quoted_text(out, record.target);
    out.push(b' ');
    quoted_text(out, record.version.as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, record.status.into());
    out.push(b' ');
    number(out, record.bytes_sent);
    for field in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        quoted_text(out, if field.is_empty() { b"-" } else { field });
        out.push(b'"');
    }
    out.push(b'\n');
}

fn client(out: &mut Vec<u8>, record: &Record<'_>) {
    match record.client.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => {
            let [first, rest @ ..] = ip.octets();
            number(out, first.into());
            for octet in rest {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        Some(IpAddr::V6(ip)) => {
            let _ = write!(out, "{ip}");
        }
        None => out.extend_from_slice(b"unix"),
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn three_digits(out: &mut Vec<u8>, number: u64) {
    let digit = |divisor| b'0' + (number / divisor % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// Printable ASCII other than quote and backslash, which stands for itself in both formats.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Looks at every byte, even after one that is not plain, so that it compiles to vector code.
fn all_plain(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte))
}

/// The inside of a JSON string. What is not UTF-8 becomes the replacement character; control
/// characters are escaped, those above ASCII too, which some terminals obey.
fn json_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let _ = match character {
                '"' => write!(out, "\\\""),
                '\\' => write!(out, "\\\\"),
                '\n' => write!(out, "\\n"),
                '\r' => write!(out, "\\r"),
                '\t' => write!(out, "\\t"),
                control if control.is_control() => write!(out, "\\u{:04x}", u32::from(control)),
                other => write!(out, "{other}"),
            };
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// The inside of a quoted field of the combined format: everything that is not plain as `\xhh`.
fn quoted_text(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        if is_plain(byte) {
            out.push(byte);
        } else {
            let digit = |nibble: u8| HEX[usize::from(nibble)];
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Year, month and day, from 1, of a day counted from 1970-01-01.
fn civil_date(day: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, leap days fall on the last day of a year, of four years, of a century
    // and of four centuries; the last day of the two longer of these needs the `min`.
    let day = day + 719_468;
    let (quadricentennial, day) = (day / 146_097, day % 146_097);
    let century = (day / 36_524).min(3);
    let day = day - century * 36_524;
    let (quadrennium, day) = (day / 1461, day % 1461);
    let year_of_four = (day / 365).min(3);
    let mut day = day - year_of_four * 365;
    let mut year = quadricentennial * 400 + century * 100 + quadrennium * 4 + year_of_four;

    let mut month = 3;
    for length in [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    if month > 12 {
        month -= 12;
        year += 1;
    }
    (year, month, day + 1)
}
