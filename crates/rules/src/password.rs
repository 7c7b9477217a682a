//! Hashes of passwords and tokens: made, and checked against what somebody presented.
//!
//! Checking a password's hash takes milliseconds and, for argon2, megabytes by design. So nothing
//! here is called by a worker; who calls it decides on which thread.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, rand};

/// What stands before the hexadecimal digits of a SHA-256 hash.
const SHA256: &str = "sha256:";

/// OWASP's recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash as configurations write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hash {
    /// Of a secret of high entropy: quick to check.
    Sha256([u8; 32]),
    /// `$argon2id$…`, `$argon2i$…` or `$argon2d$…`.
    Argon2(String),
    /// `$2b$…` and its relatives.
    Bcrypt(String),
}

impl Hash {
    /// Reads a hash.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(digits) = text.strip_prefix(SHA256) {
            let bytes = unhex(digits).ok_or("expected 64 hexadecimal digits after `sha256:`")?;
            return Ok(Self::Sha256(bytes));
        }
        if text.starts_with("$argon2") {
            let parsed = PasswordHash::new(text).map_err(|_| "expected an argon2 hash")?;
            Params::try_from(&parsed).map_err(|_| "expected an argon2 hash")?;
            return Ok(Self::Argon2(text.to_owned()));
        }
        if text.starts_with("$2") {
            text.parse::<bcrypt::HashParts>()
                .map_err(|_| "expected a bcrypt hash")?;
            return Ok(Self::Bcrypt(text.to_owned()));
        }
        Err("expected a hash: sha256:…, $argon2id$… or $2b$…")
    }

    /// Whether checking takes long enough that a worker must not do it.
    pub fn is_slow(&self) -> bool {
        !matches!(self, Self::Sha256(_))
    }

    /// Whether this is the hash of what was presented.
    pub fn verify(&self, presented: &[u8]) -> bool {
        match self {
            Self::Sha256(hash) => same(hash, &sha256(&[presented])),
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(presented, &hash).is_ok()),
            Self::Bcrypt(text) => bcrypt::verify(presented, text).unwrap_or(false),
        }
    }
}

/// The argon2id hash of a password, with a salt of its own. `None` for one that is too long, or
/// where memory or random numbers are not to be had.
pub fn hash_password(password: &[u8]) -> Option<String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    let salt = SaltString::encode_b64(&bytes).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password, &salt)
        .map(|hash| hash.to_string())
        .ok()
}

/// SHA-256 of some bytes after one another.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| (digit as char).to_digit(16);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(bytes)
}
