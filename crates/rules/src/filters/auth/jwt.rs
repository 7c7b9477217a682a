//! JSON Web Tokens (RFC 7519), signed with RSA, ECDSA or `EdDSA`.
//!
//! The algorithm is the key's, never the token's choice: a token names one only to find its key, and
//! there are no other keys than public ones. Workers check signatures themselves: a token takes 19 µs
//! (RSA, 2048 bits), 62 (4096), 54 (ES256) or 40 (Ed25519), a fraction of a TLS handshake, for which
//! nobody is sent elsewhere either, and a thread beside them would compete for the same cores. What a
//! token says is remembered until it ends, so that it is checked once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use evenflow_wire::http1::head::RequestHead;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::cache::Cache;
use super::{
    OwnFields, base64, challenge, challenge_line, credentials, hidden_authorization, unix_s,
};
use crate::filters::context::FilterContext;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome,
};
use crate::filters::state::reuse;
use crate::password::sha256;
use crate::plan::JwtFilter;
use crate::reason::Reason;

const REMEMBERED: usize = 4096;
/// Longer tokens are refused unread.
const LONGEST: usize = 16 * 1024;
/// What is remembered of one token, at the most.
const LONGEST_KEPT: usize = 2048;
/// So many keys are tried for a token that does not name one.
const MOST_TRIED: usize = 4;

/// Why a token is refused: the word for it in metrics, logs and answers.
pub type Fault = &'static str;

/// The fault of a token that is signed with a key which the filter does not have.
const UNKNOWN_KEY: Fault = "token_unknown_key";

/// One place in a chain where a signed token is required.
#[derive(Debug, Clone)]
pub struct JwtStep(Arc<Jwt>);

/// The rules of one filter, and the tokens that were verified.
pub struct Jwt {
    challenge: Box<[u8]>,
    own: OwnFields,
    rules: JwtFilter,
    keys: Vec<Key>,
    verified: Cache<Arc<Verified>>,
    /// When a missing key was last reported, in Unix seconds.
    reported_s: AtomicU64,
}

impl Primitive for JwtStep {
    type Rules = JwtFilter;
    const NAME: &'static str = "jwt";
    const CLASS: Class = Class::Auth;

    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError> {
        reuse(&mut setup.state.jwt, rules, Jwt::new).map(Self)
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.announce(assembly)
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.assemble(assembly)
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        self.0.own.clear(request.context);
        let explained = request.is_explained();
        let (head, base) = (request.view.head, request.view.base);
        self.0.judge(head, base, explained, request.context)
    }
}

struct Key {
    kid: Option<String>,
    alg: String,
    public: ParsedPublicKey,
}

/// What a token said.
#[derive(Debug)]
pub struct Verified {
    not_before: u64,
    /// The first second at which it is over.
    expires: u64,
    user: Vec<u8>,
    lines: Vec<u8>,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Jwt")
            .field("name", &self.rules.name)
            .finish_non_exhaustive()
    }
}

impl Jwt {
    /// Makes it.
    ///
    /// # Errors
    /// The path below the filter and what is wrong there.
    pub fn new(rules: &JwtFilter) -> Result<Self, PathError> {
        let mut keys = Vec::with_capacity(rules.keys.len());
        for (index, key) in rules.keys.iter().enumerate() {
            let wrong =
                |field: &str, text: &str| Err((format!("keys[{index}].{field}"), text.into()));
            let Some(algorithm) = algorithm(&key.alg) else {
                return wrong("alg", "expected an algorithm with public keys");
            };
            let Ok(parsed) = ParsedPublicKey::new(algorithm, &key.key) else {
                return wrong("key", "expected a key of this algorithm");
            };
            keys.push(Key {
                kid: key.kid.clone(),
                alg: key.alg.clone(),
                public: parsed,
            });
        }
        Ok(Self {
            challenge: challenge_line("Bearer", &rules.realm, "")?,
            own: own_fields(rules),
            rules: rules.clone(),
            keys,
            verified: Cache::new(REMEMBERED),
            reported_s: AtomicU64::new(0),
        })
    }

    /// Judges a request by the token it carries.
    fn judge(
        &self,
        head: &RequestHead,
        base: &[u8],
        explained: bool,
        context: &mut FilterContext,
    ) -> StepOutcome<'_> {
        if self.keys.is_empty() {
            return StepOutcome::Refuse(Reason::AuthUnavailable.into());
        }
        let Some(token) = self.token(head, base) else {
            return challenge(&self.challenge, context);
        };
        let now_s = unix_s();
        match self.check(token, now_s) {
            Ok(verified) => {
                context.set_user(&verified.user);
                context.request_lines.extend_from_slice(&verified.lines);
                StepOutcome::Continue
            }
            Err(fault) => {
                if fault == UNKNOWN_KEY && !explained && self.is_report_due(now_s) {
                    context.unknown_key = Some(self.rules.name.clone());
                }
                self.push_challenge(fault, &mut context.response_lines);
                StepOutcome::Refuse(Reason::Token(fault).into())
            }
        }
    }

    /// What a token says, if it is valid at this time.
    fn check(&self, token: &[u8], now_s: u64) -> Result<Arc<Verified>, Fault> {
        let digest = sha256(&[token]);
        if let Some(known) = self.verified.get(&digest) {
            return match known.at(now_s) {
                Ok(()) => Ok(known),
                Err(fault) => {
                    self.verified.remove(&digest);
                    Err(fault)
                }
            };
        }
        let verified = self.verify(token)?;
        verified.at(now_s)?;
        let size = verified.lines.len() + verified.user.len();
        let verified = Arc::new(verified);
        if size <= LONGEST_KEPT {
            self.verified.put(digest, Arc::clone(&verified));
        }
        Ok(verified)
    }

    /// The `WWW-Authenticate` line. RFC 6750 §3: only a client that presented a token learns what is
    /// wrong with it.
    fn push_challenge(&self, fault: Fault, out: &mut Vec<u8>) {
        let line = &self.challenge;
        out.extend_from_slice(line.strip_suffix(b"\r\n").unwrap_or(line));
        out.extend_from_slice(b", error=\"invalid_token\", error_description=\"");
        out.extend_from_slice(fault.as_bytes());
        out.extend_from_slice(b"\"\r\n");
    }

    /// Whether a missing key is to be reported now: at most once a second.
    fn is_report_due(&self, now_s: u64) -> bool {
        let reported = self.reported_s.load(Ordering::Relaxed);
        now_s != reported
            && self
                .reported_s
                .compare_exchange(reported, now_s, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The token, where there is exactly one.
    fn token<'a>(&self, head: &RequestHead, base: &'a [u8]) -> Option<&'a [u8]> {
        let found = if let Some(name) = &self.rules.cookie {
            let fields = head.fields.iter();
            let cookies =
                fields.filter(|field| field.name.get(base).eq_ignore_ascii_case(b"cookie"));
            let pairs = cookies.flat_map(|field| field.value.get(base).split(|&byte| byte == b';'));
            only(pairs.filter_map(|pair| {
                pair.trim_ascii()
                    .strip_prefix(name.as_bytes())?
                    .strip_prefix(b"=")
            }))
        } else if let Some(name) = &self.rules.header {
            let fields = head.fields.iter();
            let named =
                fields.filter(|field| field.name.get(base).eq_ignore_ascii_case(name.as_bytes()));
            only(named.map(|field| field.value.get(base)))
        } else {
            credentials(head, base, b"bearer")
        };
        found.filter(|token| !token.is_empty())
    }

    /// Reads a token and checks all but its times.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &[u8]) -> Result<Verified, Fault> {
        const MALFORMED: Fault = "token_malformed";
        if token.len() > LONGEST {
            return Err("token_too_long");
        }
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(first), Some(second), Some(third), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MALFORMED);
        };
        let header = object(first).ok_or(MALFORMED)?;
        // Extensions that must be understood: there are none we do.
        if header.contains_key("crit") {
            return Err(MALFORMED);
        }
        let alg = header.get("alg").and_then(Value::as_str).ok_or(MALFORMED)?;
        let kid = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(MALFORMED)?),
        };
        let signature = base64(third, false).ok_or(MALFORMED)?;
        let message = &token[..first.len() + 1 + second.len()];
        self.check_signature(alg, kid, message, &signature)?;
        let claims = object(second).ok_or(MALFORMED)?;
        self.accept(&Value::Object(claims))
    }

    fn check_signature(
        &self,
        alg: &str,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Fault> {
        if !self.keys.iter().any(|key| key.alg == alg) {
            return Err("token_algorithm");
        }
        let mut fault = UNKNOWN_KEY;
        let fitting = self.keys.iter().filter(|key| {
            key.alg == alg && (kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
        });
        for key in fitting.take(MOST_TRIED) {
            if key.public.verify_sig(message, signature).is_ok() {
                return Ok(());
            }
            fault = "token_signature";
        }
        Err(fault)
    }

    /// Judges the claims, and writes the request fields that are made of them.
    fn accept(&self, claims: &Value) -> Result<Verified, Fault> {
        let rules = &self.rules;
        let leeway = rules.leeway_s;
        // Without an end a token could never be taken back.
        let expires = match claims.get("exp") {
            Some(at) => seconds(at).ok_or("token_claims")?.saturating_add(leeway),
            None => return Err("token_claims"),
        };
        let not_before = match claims.get("nbf") {
            Some(at) => seconds(at).ok_or("token_claims")?.saturating_sub(leeway),
            None => 0,
        };
        if !rules.issuers.is_empty() && !names_one_of(claims.get("iss"), &rules.issuers, false) {
            return Err("token_issuer");
        }
        if !rules.audiences.is_empty() && !names_one_of(claims.get("aud"), &rules.audiences, true) {
            return Err("token_audience");
        }
        if !rules
            .required_claims
            .iter()
            .all(|name| claim(claims, name).is_some())
        {
            return Err("token_claims");
        }
        let mut fields = FilterContext::default();
        for (name, field) in &rules.claims_to_headers {
            if let Some(text) = claim(claims, name).and_then(text_of) {
                fields.add_field(field, text.as_bytes());
            }
        }
        let user = claim(claims, &rules.user_claim).and_then(text_of);
        Ok(Verified {
            not_before,
            expires,
            user: user.unwrap_or_default().into_bytes(),
            lines: fields.request_lines,
        })
    }
}

impl Verified {
    fn at(&self, now_s: u64) -> Result<(), Fault> {
        if now_s >= self.expires {
            return Err("token_expired");
        }
        if now_s < self.not_before {
            return Err("token_not_yet_valid");
        }
        Ok(())
    }
}

/// The fields that endpoints get from the filter, and those they do not get from the client.
fn own_fields(rules: &JwtFilter) -> OwnFields {
    let set = rules.claims_to_headers.iter();
    let set = set.map(|(_, field)| field.clone()).collect();
    let hidden = match (&rules.header, &rules.cookie) {
        (None, None) => hidden_authorization(rules.forward),
        (header, _) => header.iter().filter(|_| !rules.forward).cloned().collect(),
    };
    OwnFields {
        set,
        hidden,
        hidden_cookie: rules.cookie.clone().filter(|_| !rules.forward),
    }
}

fn algorithm(name: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match name {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
        "ES512" => &signature::ECDSA_P521_SHA512_FIXED,
        "EdDSA" => &signature::ED25519,
        _ => return None,
    })
}

/// The one thing there is.
fn only<'a>(mut found: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// A claim by its name, or by a JSON Pointer (RFC 6901).
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') {
        return claims.pointer(name);
    }
    claims.get(name)
}

/// Whether a claim is one of some texts or, as audiences may be, a list with one of them.
fn names_one_of(value: Option<&Value>, wanted: &[String], lists: bool) -> bool {
    match value {
        Some(Value::String(text)) => wanted.contains(text),
        Some(Value::Array(several)) if lists => several
            .iter()
            .any(|each| names_one_of(Some(each), wanted, false)),
        _ => false,
    }
}

/// A `NumericDate` in whole seconds.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let at = value.as_f64()?;
        (at.is_finite() && at >= 0.0).then_some(at as u64)
    })
}

/// A claim as a header's value: strings, numbers and booleans unchanged, a list of these separated by
/// commas. Other values are not sent.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(several) => {
            let texts = several.iter().map(|each| match each {
                Value::Array(_) => None,
                each => text_of(each).filter(|text| !text.contains(',')),
            });
            texts
                .collect::<Option<Vec<_>>>()
                .map(|texts| texts.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// An object in base64url; no name in it twice, since readers would differ in which one counts.
fn object(text: &[u8]) -> Option<Map<String, Value>> {
    struct Once;

    impl<'de> Visitor<'de> for Once {
        type Value = Map<String, Value>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = Map::new();
            while let Some((name, value)) = members.next_entry::<String, Value>()? {
                if found.insert(name, value).is_some() {
                    return Err(de::Error::custom("a name is given twice"));
                }
            }
            Ok(found)
        }
    }

    let bytes = base64(text, false)?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let found = reader.deserialize_map(Once).ok()?;
    reader.end().ok().map(|()| found)
}
