//! `Basic` (RFC 7617): a name and a password, checked against a hash.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cache::Cache;
use super::{OwnFields, base64, challenge, challenge_line, credentials};
use crate::filters::context::FilterContext;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PasswordCheck, PathError, Primitive, Setup, StepOutcome, Wait,
    WaitResult,
};
use crate::filters::state::reuse;
use crate::password::{Hash, sha256};
use crate::plan::BasicFilter;
use crate::reason::Reason;

const REMEMBERED: usize = 16_384;
/// Longer credentials are refused unread: bcrypt looks at 72 bytes, and nobody types this.
const LONGEST: usize = 1024;

/// One place in a chain where a password is required.
#[derive(Debug, Clone)]
pub struct BasicStep(Arc<Basic>);

/// Users, and the credentials that were verified.
#[derive(Debug)]
pub struct Basic {
    challenge: Box<[u8]>,
    user_header: Option<String>,
    own: OwnFields,
    users: Vec<(String, Hash)>,
    by_name: FxHashMap<Vec<u8>, usize>,
    verified: Cache<u32>,
}

impl Primitive for BasicStep {
    type Rules = BasicFilter;
    const NAME: &'static str = "basic";
    const CLASS: Class = Class::Auth;

    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError> {
        reuse(&mut setup.state.basic, rules, Basic::compile).map(Self)
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.announce(assembly)
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.assemble(assembly)
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        let (head, base) = (request.view.head, request.view.base);
        self.0.own.clear(request.context);
        self.0
            .judge(credentials(head, base, b"basic"), request.context)
    }

    fn settle(&self, result: WaitResult<'_>, context: &mut FilterContext) -> Result<(), Reason> {
        match result {
            WaitResult::Password(check, right) => self.0.settle(&check, right, context),
            WaitResult::External(_) => Err(Reason::AuthUnavailable),
        }
    }
}

impl Basic {
    fn compile(rules: &BasicFilter) -> Result<Self, PathError> {
        let mut users = Vec::with_capacity(rules.users.len());
        let mut by_name = FxHashMap::default();
        for (index, (name, hash)) in rules.users.iter().enumerate() {
            if name.contains(':') || name.chars().any(char::is_control) {
                let message = "expected a name without colons and control characters";
                return Err((format!("users[{index}][0]"), message.into()));
            }
            let hash = Hash::parse(hash)
                .map_err(|message| (format!("users[{index}][1]"), message.to_owned()))?;
            users.push((name.clone(), hash));
            if by_name.insert(name.clone().into_bytes(), index).is_some() {
                return Err((format!("users[{index}][0]"), "given twice".into()));
            }
        }
        Ok(Self {
            challenge: challenge_line("Basic", &rules.realm, ", charset=\"UTF-8\"")?,
            user_header: rules.user_header.clone(),
            own: OwnFields::of_credentials(rules.user_header.as_ref(), rules.forward),
            users,
            by_name,
            verified: Cache::new(REMEMBERED),
        })
    }

    fn judge(&self, credentials: Option<&[u8]>, context: &mut FilterContext) -> StepOutcome<'_> {
        let Some(credentials) = credentials.filter(|given| given.len() <= LONGEST) else {
            return self.refuse(context);
        };
        let digest = sha256(&[credentials]);
        if let Some(user) = self.verified.get(&digest) {
            self.admit(user as usize, context);
            return StepOutcome::Continue;
        }
        let Some(decoded) = base64(credentials, true) else {
            return self.refuse(context);
        };
        let Some(colon) = memchr::memchr(b':', &decoded) else {
            return self.refuse(context);
        };
        let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
        let user = self.by_name.get(name).copied();
        let hash = match user {
            Some(user) => &self.users[user].1,
            // An unknown name must take as long as a wrong password.
            None => match self.users.iter().find(|(_, hash)| hash.is_slow()) {
                Some((_, hash)) => hash,
                None => return self.refuse(context),
            },
        };
        if hash.is_slow() {
            return StepOutcome::Wait(Wait::Password(Box::new(PasswordCheck {
                hash: hash.clone(),
                password: password.to_vec(),
                user,
                digest,
            })));
        }
        let right = hash.verify(password);
        match user.filter(|_| right) {
            None => self.refuse(context),
            Some(user) => {
                self.verified.put(digest, user as u32);
                self.admit(user, context);
                StepOutcome::Continue
            }
        }
    }

    fn refuse(&self, context: &mut FilterContext) -> StepOutcome<'_> {
        challenge(&self.challenge, context)
    }

    fn admit(&self, user: usize, context: &mut FilterContext) {
        let name = self.users[user].0.as_bytes();
        context.set_user(name);
        if let Some(header) = &self.user_header {
            context.add_field(header, name);
        }
    }

    fn settle(
        &self,
        check: &PasswordCheck,
        right: Option<bool>,
        context: &mut FilterContext,
    ) -> Result<(), Reason> {
        let right = right.ok_or(Reason::AuthUnavailable)?;
        let Some(user) = check.user.filter(|_| right) else {
            self.refuse(context);
            return Err(Reason::Unauthorized);
        };
        self.verified.put(check.digest, user as u32);
        self.admit(user, context);
        Ok(())
    }
}
