//! Access lines say what happened, stay one line each, and never hold up a worker.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use evenflow_engine::access_log::{AccessLog, Record};
use evenflow_rules::plan::{self, AccessFormat};
use proptest::prelude::*;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// A directory of its own for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("evenflow-access-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(format: AccessFormat, output: &Path) -> Arc<AccessLog> {
    let output = output.to_str().unwrap().to_owned();
    AccessLog::open(&plan::AccessLogPlan {
        format,
        output,
        sample: 1.0,
    })
    .unwrap()
}

fn record() -> Record<'static> {
    Record {
        time_ns: 1_709_210_096_007_000_000,
        request_id: b"01-ab",
        client: Some("192.0.2.1".parse().unwrap()),
        method: b"GET",
        host: b"example.org",
        target: b"/users/7?x=1",
        version: "HTTP/1.1",
        status: 200,
        bytes_sent: 2326,
        bytes_received: 12,
        route: "default",
        pool: "web",
        backend_id: "backend-1",
        attempts: 1,
        hedge: "",
        user: b"",
        latency_ns: 12_034_999,
        reason: "",
        user_agent: b"curl/8.0",
        referer: b"",
    }
}

/// What one record becomes.
fn line(format: AccessFormat, record: &Record<'_>) -> String {
    let scratch = Scratch::new();
    let path = scratch.file("access.log");
    let log = open(format, &path);
    let mut buffer = log.buffer();
    buffer.record(record);
    buffer.flush();
    assert!(log.close(PATIENCE), "the writer ends");
    fs::read_to_string(path).unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_json_line_carries_every_field() {
    let line = line(AccessFormat::Json, &record());
    assert!(line.ends_with("}\n"));
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap(),
        json!({
            "time": "2024-02-29T12:34:56.007Z", "request_id": "01-ab", "client": "192.0.2.1",
            "method": "GET", "host": "example.org", "path": "/users/7?x=1", "status": 200,
            "bytes": 2326, "bytes_received": 12, "route": "default", "pool": "web",
            "backend_id": "backend-1", "attempts": 1, "latency_ms": 12.034, "reason": "",
        })
    );
}

#[test]
fn a_combined_line_is_apaches() {
    let mut record = record();
    assert_eq!(
        line(AccessFormat::Combined, &record),
        "192.0.2.1 - - [29/Feb/2024:12:34:56 +0000] \"GET /users/7?x=1 HTTP/1.1\" 200 2326 \
         \"-\" \"curl/8.0\"\n"
    );
    record.client = None;
    assert!(line(AccessFormat::Combined, &record).starts_with("unix - - ["));
    record.client = Some("::ffff:192.0.2.7".parse::<IpAddr>().unwrap());
    assert!(line(AccessFormat::Combined, &record).starts_with("192.0.2.7 - - ["));
}

#[test]
fn a_client_cannot_forge_a_line() {
    let record = Record {
        target: b"/\"\r\n10.0.0.1 - - \\",
        user_agent: b"\x1b[31m\xff\x00",
        ..record()
    };
    let combined = line(AccessFormat::Combined, &record);
    assert_eq!(combined.lines().count(), 1);
    assert!(
        combined.contains(r#""GET /\x22\x0d\x0a10.0.0.1 - - \x5c HTTP/1.1""#),
        "{combined}"
    );
    assert!(
        combined.ends_with("\"\\x1b[31m\\xff\\x00\"\n"),
        "{combined}"
    );
    assert_eq!(line(AccessFormat::Json, &record).lines().count(), 1);
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (second, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_799, "2000-02-29T23:59:59.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000Z"),
        (1_735_689_600, "2025-01-01T00:00:00.000Z"),
        (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        let record = Record {
            time_ns: second * 1_000_000_000,
            ..record()
        };
        let line: Value = serde_json::from_str(&line(AccessFormat::Json, &record)).unwrap();
        assert_eq!(line["time"], expected);
    }
}

#[test]
fn every_day_of_four_centuries_follows_the_one_before() {
    let scratch = Scratch::new();
    let path = scratch.file("access.log");
    let log = open(AccessFormat::Json, &path);
    let mut buffer = log.buffer();
    for day in 0..146_097 {
        buffer.record(&Record {
            time_ns: day * 86_400_000_000_000,
            ..record()
        });
        if buffer.len() > 1 << 20 {
            buffer.flush();
            wait_until("the chunk is written", || log.stats().written > day);
        }
    }
    drop(buffer);
    assert!(log.close(PATIENCE));
    let leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let text = fs::read_to_string(path).unwrap();
    let mut dates = text.lines().map(|line| &line[9..19]);
    for year in 1970..2370 {
        for month in 1..=12 {
            let days = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            for day in 1..=days {
                assert_eq!(
                    dates.next(),
                    Some(format!("{year}-{month:02}-{day:02}").as_str())
                );
            }
        }
    }
    assert_eq!(dates.next(), None);
}

#[test]
fn a_dropped_buffer_hands_over_its_lines_and_the_last_reference_ends_the_writer() {
    let scratch = Scratch::new();
    let path = scratch.file("access.log");
    let mut buffer = open(AccessFormat::Combined, &path).buffer();
    for _ in 0..3 {
        buffer.record(&record());
    }
    drop(buffer);
    wait_until("all lines are written", || {
        fs::read_to_string(&path).unwrap().lines().count() == 3
    });
}

#[test]
fn reopening_follows_the_path_after_a_rename() {
    let scratch = Scratch::new();
    let (path, rotated) = (scratch.file("access.log"), scratch.file("access.log.1"));
    let log = open(AccessFormat::Combined, &path);
    let mut buffer = log.buffer();
    buffer.record(&record());
    buffer.flush();
    wait_until("the first line is written", || log.stats().written == 1);
    fs::rename(&path, &rotated).unwrap();
    log.reopen();
    buffer.record(&record());
    buffer.record(&record());
    buffer.flush();
    assert!(log.close(PATIENCE));
    assert_eq!(fs::read_to_string(rotated).unwrap().lines().count(), 1);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 2);
}

#[test]
fn reopening_keeps_the_old_file_when_the_path_is_gone() {
    let scratch = Scratch::new();
    let directory = scratch.file("logs");
    fs::create_dir(&directory).unwrap();
    let log = open(AccessFormat::Combined, &directory.join("access.log"));
    let moved = scratch.file("moved");
    fs::rename(&directory, &moved).unwrap();
    log.reopen();
    let mut buffer = log.buffer();
    buffer.record(&record());
    buffer.flush();
    assert!(log.close(PATIENCE));
    assert_eq!(
        fs::read_to_string(moved.join("access.log"))
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_stalled_output_delays_nobody_and_the_dropped_lines_are_counted() {
    const CHUNKS: u64 = 3000;
    let scratch = Scratch::new();
    let fifo = scratch.file("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    // Opened for reading but never read: the pipe fills and the writer stalls.
    let reader = fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let log = open(AccessFormat::Json, &fifo);
    let mut buffer = log.buffer();
    let start = Instant::now();
    for _ in 0..CHUNKS {
        buffer.record(&Record {
            target: &[b'x'; 4096],
            ..record()
        });
        buffer.flush();
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    let stalled = log.stats();
    assert!(stalled.dropped > 1000, "{stalled:?}");
    assert!(
        !log.close(Duration::from_millis(50)),
        "the writer cannot have ended"
    );

    let drain = thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    wait_until("every line is accounted for", || {
        let stats = log.stats();
        stats.written + stats.dropped == CHUNKS
    });
    assert!(log.close(PATIENCE));
    drop(drain);
}

#[test]
fn lines_that_cannot_be_written_count_as_dropped() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let log = open(AccessFormat::Json, Path::new("/dev/full"));
    let mut buffer = log.buffer();
    buffer.record(&record());
    buffer.record(&record());
    buffer.flush();
    assert!(log.close(PATIENCE));
    assert_eq!((log.stats().written, log.stats().dropped), (0, 2));
    buffer.record(&record());
    buffer.flush();
    assert_eq!(
        log.stats().dropped,
        3,
        "and so do those after it was closed"
    );
}

#[test]
fn an_output_that_cannot_be_opened_is_an_error() {
    let plan = plan::AccessLogPlan {
        format: AccessFormat::Json,
        output: "/nonexistent/directory/access.log".into(),
        sample: 1.0,
    };
    assert!(AccessLog::open(&plan).is_err());
}

#[test]
fn lines_of_several_workers_never_mix() {
    const WORKERS: usize = 4;
    const LINES: usize = 2000;
    let scratch = Scratch::new();
    let path = scratch.file("access.log");
    let log = open(AccessFormat::Json, &path);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let mut buffer = log.buffer();
            scope.spawn(move || {
                for line in 0..LINES {
                    buffer.record(&record());
                    if line % 50 == 0 {
                        buffer.flush();
                    }
                }
            });
        }
    });
    assert!(log.close(PATIENCE));
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), WORKERS * LINES);
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_make_one_json_line_that_reads_back(target: Vec<u8>, host: String) {
        let record = Record { target: &target, host: host.as_bytes(), ..record() };
        let line = line(AccessFormat::Json, &record);
        prop_assert_eq!(line.lines().count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&read["path"], &String::from_utf8_lossy(&target).into_owned());
        prop_assert_eq!(&read["host"], &host);
    }

    #[test]
    fn any_bytes_make_one_printable_combined_line(target: Vec<u8>, user_agent: Vec<u8>) {
        let record = Record { target: &target, user_agent: &user_agent, ..record() };
        let line = line(AccessFormat::Combined, &record);
        let inside = line.strip_suffix('\n').unwrap();
        prop_assert!(inside.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        prop_assert_eq!(inside.bytes().filter(|byte| *byte == b'"').count(), 6);
    }
}

#[test]
fn who_asked_is_told_where_it_is_known() {
    let record = Record {
        user: b"al ice\"",
        ..record()
    };
    let json: Value = serde_json::from_str(&line(AccessFormat::Json, &record)).unwrap();
    assert_eq!(json["user"], "al ice\"");
    let combined = line(AccessFormat::Combined, &record);
    assert!(
        combined.starts_with(r"192.0.2.1 - al\x20ice\x22 ["),
        "{combined}"
    );
}
