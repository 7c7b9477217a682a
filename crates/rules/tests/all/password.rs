//! Hashes of passwords, with vectors made by other programs.

use evenflow_rules::password::{Hash, hash_password};

/// `printf secret | sha256sum`
const SHA256: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
/// Made with Python's `bcrypt`.
const BCRYPT: &str = "$2b$04$wKzcOgyXy2wU1mDcepRBxuuVmYZmrUAvNmQ.TyutYdSjce4YtLEMK";
/// Made with `argon2-cffi`.
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$yxDPB7CIXqgH+gWIVKE3LA$m2lE17B5KNFPqhR9nNZ2iGEjO6AT3LjnldknS54POhQ";

#[test]
fn a_hash_knows_its_secret_and_no_other() {
    for text in [SHA256, BCRYPT, ARGON2] {
        let hash = Hash::parse(text).unwrap();
        assert!(hash.verify(b"secret"), "{text}");
        assert!(!hash.verify(b"Secret"), "{text}");
        assert!(!hash.verify(b""), "{text}");
    }
}

#[test]
fn a_hash_that_was_made_here_is_verified_and_salted() {
    let one = hash_password(b"secret").unwrap();
    let two = hash_password(b"secret").unwrap();
    assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    assert_ne!(one, two);
    let hash = Hash::parse(&one).unwrap();
    assert!(hash.is_slow());
    assert!(hash.verify(b"secret"));
    assert!(!hash.verify(b"secret "));
}

#[test]
fn what_is_no_hash_is_refused() {
    for text in [
        "",
        "secret",
        "sha256:",
        "sha256:zz",
        "$argon2id$",
        "$2b$04$short",
        "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$",
    ] {
        assert!(Hash::parse(text).is_err(), "{text}");
    }
}
