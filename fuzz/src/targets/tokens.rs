//! Tokens: whatever was not signed is refused, with a word for it and without a panic.

use evenflow_rules::filters::auth::jwt::Jwt;
use evenflow_rules::plan::{JwtFilter, JwtKey};

use super::{Target, rule};

/// RFC 7515 §A.3.
const SIGNED: &[u8] = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const POINT: [u8; 65] = [
    4, 127, 205, 206, 39, 112, 246, 196, 93, 65, 131, 203, 238, 111, 219, 75, 123, 88, 7, 51, 53,
    123, 233, 239, 19, 186, 207, 110, 60, 123, 209, 84, 69, 199, 241, 68, 205, 27, 189, 155, 126,
    135, 44, 223, 237, 185, 238, 185, 244, 179, 105, 93, 110, 169, 11, 36, 173, 138, 70, 35, 40,
    133, 136, 229, 173,
];

/// The parts of a token, and the JSON in them.
pub const TOKEN: Target = Target {
    name: "token",
    seeds: &[
        SIGNED,
        b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UifQ.",
        b"eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uL2V0Yy9wYXNzd2QifQ.e30.AAAA",
    ],
    words: &[
        b".",
        b"..",
        b"=",
        b"eyJhbGciOiJFUzI1NiJ9",
        b"eyJhbGciOiJFUzI1NiIsImFsZyI6Im5vbmUifQ",
        b"eyJhbGciOiJub25lIn0",
        b"e30",
        b"W1tbW1tbW1tb",
        b"-_",
        b"+/",
    ],
    check,
};

fn check(input: &[u8]) -> Result<(), String> {
    let rules = JwtFilter {
        name: String::new(),
        realm: String::new(),
        keys: vec![JwtKey {
            kid: None,
            alg: "ES256".into(),
            key: POINT.to_vec(),
        }],
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway_s: 0,
        required_claims: Vec::new(),
        user_claim: "iss".into(),
        claims_to_headers: vec![("iss".into(), "x-user".into())],
        header: None,
        cookie: None,
        forward: true,
    };
    let jwt = Jwt::new(&rules).map_err(|(path, text)| format!("{path}: {text}"))?;
    match jwt.verify(input) {
        Ok(_) => rule(input == SIGNED, "a token passes that nobody signed"),
        Err(fault) => rule(fault.starts_with("token_"), "a fault without a word"),
    }
}
