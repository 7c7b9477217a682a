//! Fixed bearer tokens (RFC 6750), kept as SHA-256.

use rustc_hash::FxHashMap;

use crate::filters::auth::{Verdict, challenge_line};
use crate::filters::context::FilterContext;
use crate::password::{Hash, sha256};
use crate::plan::BearerFilter;

/// Tokens by digest. What a look-up's time tells is about the digest, of which nobody can choose
/// even one bit without guessing tokens.
#[derive(Debug)]
pub struct Bearer {
    pub(super) challenge: Box<[u8]>,
    user_header: Option<String>,
    names: FxHashMap<[u8; 32], String>,
}

impl Bearer {
    pub(super) fn compile(rules: &BearerFilter) -> Result<Self, (String, String)> {
        let mut names = FxHashMap::default();
        for (index, (name, hash)) in rules.tokens.iter().enumerate() {
            let Ok(Hash::Sha256(digest)) = Hash::parse(hash) else {
                let message = "expected sha256: and 64 hexadecimal digits";
                return Err((format!("tokens[{index}][1]"), message.into()));
            };
            names.insert(digest, name.clone());
        }
        Ok(Self {
            challenge: challenge_line("Bearer", &rules.realm, "")?,
            user_header: rules.user_header.clone(),
            names,
        })
    }

    pub(super) fn judge(&self, token: Option<&[u8]>, passed: &mut FilterContext) -> Verdict {
        let name = token.and_then(|token| self.names.get(&sha256(&[token])));
        let Some(name) = name else {
            return Verdict::Unknown;
        };
        passed.user.clear();
        passed.user.extend_from_slice(name.as_bytes());
        if let Some(header) = &self.user_header {
            passed.tell(header, name.as_bytes());
        }
        Verdict::Pass
    }
}
