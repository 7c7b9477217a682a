//! Outputs that lines are appended to: standard output, standard error, or a file.
//!
//! The access log and the program log may share the process's standard output. Lines of one never
//! cut into a line of the other: within the process each takes its turn, and what other processes
//! write into the same pipe stays apart because a write is whole lines of at most [`PIPE_BUF`]
//! bytes wherever a line is that short.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use memchr::{memchr, memrchr};
use nix::unistd::write;

/// What the kernel writes into a pipe without letting others in between.
const PIPE_BUF: usize = 4096;
/// Between two tries of an output that takes nothing now, such as a non-blocking pipe.
const RETRY: Duration = Duration::from_millis(5);

/// Whose turn it is. Standard output and standard error are the process's, and so are these.
static STDOUT: Mutex<()> = Mutex::new(());
static STDERR: Mutex<()> = Mutex::new(());

/// An open output.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(File),
}

impl Output {
    /// Opens `stdout`, `stderr` or a file for appending.
    ///
    /// # Errors
    /// What the system says against it.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(match name {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            path => {
                // Addresses of clients are nobody else's business: not for all to read.
                let mut options = OpenOptions::new();
                let file = options.append(true).create(true).mode(0o640).open(path)?;
                Self::File(file)
            }
        })
    }

    /// Appends whole lines; waits for an output that is slow.
    ///
    /// # Errors
    /// What the system says against it; some of the lines may be written then.
    pub fn write_lines(&mut self, mut lines: &[u8]) -> io::Result<()> {
        let turn = match self {
            Self::Stdout => &STDOUT,
            Self::Stderr => &STDERR,
            Self::File(_) => return self.write(lines),
        };
        while !lines.is_empty() {
            let (piece, rest) = lines.split_at(whole_lines(lines));
            // Let go of after each piece, so that the other log waits for no more than that.
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.write(piece)?;
            lines = rest;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not through Rust's stdout, whose lock and buffer are shared with others in the process;
        // and not through a copy of the descriptor, which there may be none left for.
        match self {
            Self::Stdout => Ok(write(io::stdout(), bytes)?),
            Self::Stderr => Ok(write(io::stderr(), bytes)?),
            Self::File(file) => file.write(bytes),
        }
    }
}

/// How many bytes to write at once: as many whole lines as fit, and at least one.
fn whole_lines(lines: &[u8]) -> usize {
    let fitting = &lines[..lines.len().min(PIPE_BUF)];
    memrchr(b'\n', fitting)
        .or_else(|| memchr(b'\n', lines))
        .map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::{PIPE_BUF, whole_lines};

    #[test]
    fn a_write_is_whole_lines() {
        assert_eq!(whole_lines(b"a\nb\n"), 4);
        assert_eq!(whole_lines(b"no end"), 6);
        let mut lines = vec![b'x'; PIPE_BUF - 2];
        lines.extend_from_slice(b"\nnext line\n");
        assert_eq!(whole_lines(&lines), PIPE_BUF - 1);
        let mut long = vec![b'x'; PIPE_BUF + 10];
        long.extend_from_slice(b"\nnext\n");
        assert_eq!(whole_lines(&long), PIPE_BUF + 11);
    }
}
