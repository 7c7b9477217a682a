//! Throws mutated input at everything that reads the network, for a bounded time.
//!
//! Needs no special compiler: it mutates a small corpus without looking at coverage, but with the
//! words that matter to HTTP framing, and it checks more than the absence of panics. The input that
//! breaks a rule is saved under `fuzz/artifacts/`, and the exit code is 1.

mod mutate;
mod targets;

use std::fs;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use targets::TARGETS;

fn main() -> ExitCode {
    let seconds = argument("--seconds").unwrap_or(30);
    let seed = argument("--seed").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let share = Duration::from_secs(seconds) / TARGETS.len() as u32;
    // The panic is told below, together with the input.
    panic::set_hook(Box::new(|_| {}));
    let mut failed = false;
    for target in TARGETS {
        let mut random = fastrand::Rng::with_seed(seed);
        let end = Instant::now() + share;
        let mut runs = 0_u64;
        while Instant::now() < end {
            for _ in 0..64 {
                let input = mutate::mutated(target.seeds, target.words, &mut random);
                runs += 1;
                let outcome = panic::catch_unwind(|| (target.check)(&input));
                if let Some(fault) = fault(outcome) {
                    failed = true;
                    save(target.name, &input, &fault);
                    break;
                }
            }
            if failed {
                break;
            }
        }
        println!("fuzz {}: {runs} runs", target.name);
    }
    ExitCode::from(u8::from(failed))
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

type Outcome = Result<Result<(), String>, Box<dyn std::any::Any + Send>>;

fn fault(outcome: Outcome) -> Option<String> {
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(rule)) => Some(rule),
        Err(panicked) => Some(
            panicked
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panicked.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "a panic".into()),
        ),
    }
}

fn save(target: &str, input: &[u8], fault: &str) {
    let folder = Path::new("fuzz/artifacts");
    let file = folder.join(format!("{target}.bin"));
    let saved = fs::create_dir_all(folder).and_then(|()| fs::write(&file, input));
    println!("FAILED {target}: {fault}");
    match saved {
        Ok(()) => println!("the input is in {}", file.display()),
        Err(error) => println!("the input could not be saved: {error}"),
    }
}
