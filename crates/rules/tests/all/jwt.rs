//! JSON Web Tokens: the vectors of the RFCs, and what must never let anybody in.

use evenflow_rules::filters::auth::jwt::{Fault, Jwt};
use evenflow_rules::plan::{JwtFilter, JwtKey};
use proptest::prelude::*;

/// RFC 8037 §A.4: `EdDSA`, over a payload that is no claims set.
const ED25519: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// RFC 7515 §A.3: ES256, over claims that expired in 2011.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const ES256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 7519 §6.1: the unsecured token.
const NONE: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
/// RFC 7515 §A.1: HMAC.
const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn decode(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = alphabet.iter().position(|&letter| letter == byte).unwrap();
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn encode(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            out.push(alphabet[(bits >> (18 - 6 * place) & 63) as usize] as char);
        }
    }
    out
}

fn filter(keys: Vec<JwtKey>) -> Jwt {
    let rules = JwtFilter {
        name: "f".into(),
        realm: "r".into(),
        keys,
        issuers: vec!["joe".into()],
        audiences: Vec::new(),
        leeway_s: 0,
        required_claims: Vec::new(),
        user_claim: "iss".into(),
        claims_to_headers: vec![("iss".into(), "x-user".into())],
        header: None,
        cookie: None,
        forward: true,
    };
    Jwt::new(&rules).unwrap()
}

fn both() -> Jwt {
    let point = [vec![4], decode(ES256_X), decode(ES256_Y)].concat();
    filter(vec![key("EdDSA", decode(ED25519_X)), key("ES256", point)])
}

fn key(alg: &str, key: Vec<u8>) -> JwtKey {
    JwtKey {
        kid: None,
        alg: alg.into(),
        key,
    }
}

fn fault(jwt: &Jwt, token: &str) -> Option<Fault> {
    jwt.verify(token.as_bytes()).err()
}

#[test]
fn the_examples_of_the_rfcs_are_verified() {
    let jwt = both();
    assert_eq!(fault(&jwt, ES256), None);
    // The signature is right, and what it signs is no object.
    assert_eq!(fault(&jwt, ED25519), Some("token_malformed"));
    let changed = ED25519.replace("hgyY", "hgyZ");
    assert_eq!(fault(&jwt, &changed), Some("token_signature"));
}

#[test]
fn no_token_is_taken_unsigned_or_signed_with_a_public_key() {
    let jwt = both();
    for token in [NONE, HS256] {
        assert_eq!(fault(&jwt, token), Some("token_algorithm"), "{token}");
    }
    for alg in ["None", "nOnE", "HS384", "", "es256", "ES256K", "RS256"] {
        let head = encode(format!("{{\"alg\":\"{alg}\"}}").as_bytes());
        let rest = ES256.split_once('.').unwrap().1;
        assert_eq!(
            fault(&jwt, &format!("{head}.{rest}")),
            Some("token_algorithm"),
            "{alg}"
        );
    }
    let swapped = ES256.replacen("eyJhbGciOiJFUzI1NiJ9", &encode(b"{\"alg\":\"EdDSA\"}"), 1);
    assert_eq!(fault(&jwt, &swapped), Some("token_signature"));
}

#[test]
fn a_filter_takes_no_key_without_a_public_half() {
    for alg in ["HS256", "none", "RSA1_5", ""] {
        let rules = vec![key(alg, vec![1; 32])];
        assert!(
            Jwt::new(&JwtFilter {
                keys: rules,
                ..bare()
            })
            .is_err(),
            "{alg}"
        );
    }
    let short = vec![key("ES256", vec![4; 10])];
    assert!(
        Jwt::new(&JwtFilter {
            keys: short,
            ..bare()
        })
        .is_err()
    );
}

fn bare() -> JwtFilter {
    JwtFilter {
        name: "f".into(),
        realm: "r".into(),
        keys: Vec::new(),
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway_s: 0,
        required_claims: Vec::new(),
        user_claim: "sub".into(),
        claims_to_headers: Vec::new(),
        header: None,
        cookie: None,
        forward: true,
    }
}

#[test]
fn heads_with_two_readings_are_malformed() {
    let jwt = both();
    let rest = ES256.split_once('.').unwrap().1;
    let deep = format!(
        "{{\"alg\":\"ES256\",\"x\":{}1{}}}",
        "[".repeat(4000),
        "]".repeat(4000)
    );
    for head in [
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"ES256"}"#,
        r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","kid":7}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":"ES256"} {}"#,
        r#"["alg"]"#,
        "{}",
        "",
        "\u{feff}{\"alg\":\"ES256\"}",
        &deep,
    ] {
        let token = format!("{}.{rest}", encode(head.as_bytes()));
        assert_eq!(fault(&jwt, &token), Some("token_malformed"), "{head:.60}");
    }
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        &format!("{ES256}="),
        &format!("{ES256}."),
        &format!(" {ES256}"),
    ] {
        assert_eq!(fault(&jwt, token), Some("token_malformed"), "{token}");
    }
    assert_eq!(fault(&jwt, &"a".repeat(17_000)), Some("token_too_long"));
}

proptest! {
    #[test]
    fn one_changed_letter_is_enough_to_be_refused(at in 0..ES256.len(), letter in "[A-Za-z0-9_.=-]") {
        let mut changed = ES256.to_owned();
        changed.replace_range(at..=at, &letter);
        prop_assume!(changed != ES256);
        prop_assert!(fault(&both(), &changed).is_some(), "{changed}");
    }

    #[test]
    fn any_text_is_judged_without_a_panic(token in "[A-Za-z0-9_.-]{0,200}") {
        prop_assert!(fault(&both(), &token).is_some());
    }
}
