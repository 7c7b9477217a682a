//! Fixed bearer tokens (RFC 6750), kept as SHA-256.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{OwnFields, challenge, challenge_line, credentials};
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome,
};
use crate::password::{Hash, sha256};
use crate::plan::BearerFilter;

/// One place in a chain where a fixed token is required.
#[derive(Debug, Clone)]
pub struct BearerStep(Arc<Bearer>);

/// Tokens by digest. What a look-up's time tells is about the digest, of which nobody can choose
/// even one bit without guessing tokens.
#[derive(Debug)]
struct Bearer {
    challenge: Box<[u8]>,
    user_header: Option<String>,
    own: OwnFields,
    names: FxHashMap<[u8; 32], String>,
}

impl Primitive for BearerStep {
    type Rules = BearerFilter;
    const NAME: &'static str = "bearer";
    const CLASS: Class = Class::Auth;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        let mut names = FxHashMap::default();
        for (index, (name, hash)) in rules.tokens.iter().enumerate() {
            let Ok(Hash::Sha256(digest)) = Hash::parse(hash) else {
                let message = "expected sha256: and 64 hexadecimal digits";
                return Err((format!("tokens[{index}][1]"), message.into()));
            };
            names.insert(digest, name.clone());
        }
        Ok(Self(Arc::new(Bearer {
            challenge: challenge_line("Bearer", &rules.realm, "")?,
            user_header: rules.user_header.clone(),
            own: OwnFields::of_credentials(rules.user_header.as_ref(), rules.forward),
            names,
        })))
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.announce(assembly)
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.assemble(assembly)
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        let (head, base) = (request.view.head, request.view.base);
        let context = &mut *request.context;
        self.0.own.clear(context);
        let token = credentials(head, base, b"bearer");
        let Some(name) = token.and_then(|token| self.0.names.get(&sha256(&[token]))) else {
            return challenge(&self.0.challenge, context);
        };
        context.set_user(name.as_bytes());
        if let Some(header) = &self.0.user_header {
            context.add_field(header, name.as_bytes());
        }
        StepOutcome::Continue
    }
}
