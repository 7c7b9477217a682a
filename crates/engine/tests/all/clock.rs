//! One clock for all workers, and no difference of times that can wrap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenflow_engine::clock::Clock;

#[test]
fn all_threads_see_one_coarse_time_that_never_goes_back() {
    let clock = Arc::new(Clock::start());
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let clock = Arc::clone(&clock);
            std::thread::spawn(move || {
                let mut last = clock.get();
                for round in 0..2000 {
                    if (round + number) % 4 == 0 {
                        let now = clock.advance();
                        assert!(clock.get() >= now, "advanced for everybody");
                    }
                    let seen = clock.get();
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_moment_before_the_start_is_the_start() {
    let before = Instant::now().checked_sub(Duration::from_secs(5));
    let clock = Clock::start();
    let start = clock.at_ns(before.unwrap());
    assert_eq!(start, 1_000_000_000);
    assert!(clock.now_ns() >= start);
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A time that another thread read may lie ahead of this thread's: the difference would wrap.
#[test]
fn times_are_subtracted_without_wrapping() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for name in ["wire", "state", "rules", "engine"] {
        sources(&crates.join(name).join("src"), &mut found);
    }
    assert!(found.len() > 40, "{found:?}");
    let times = ["now", "_ms", "_ns", "ms()", "ms.get()", "elapsed", "until"];
    let mut raw = Vec::new();
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let mut left = code
                .match_indices(" - ")
                .map(|(at, _)| code[..at].trim_end());
            let wraps = left.any(|left| times.iter().any(|time| left.ends_with(time)));
            if wraps {
                raw.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(raw.is_empty(), "use saturating_sub:\n{}", raw.join("\n"));
}
