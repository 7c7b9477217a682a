//! `Basic` (RFC 7617): a name and a password, checked against a hash.

use rustc_hash::FxHashMap;

use crate::filters::auth::cache::Cache;
use crate::filters::auth::{Pending, Verdict, base64, challenge_line};
use crate::filters::context::FilterContext;
use crate::password::{Hash, sha256};
use crate::plan::BasicFilter;

const REMEMBERED: usize = 16_384;
/// Longer ones are refused unread: bcrypt looks at 72 bytes, and nobody types this.
const LONGEST: usize = 1024;

/// Users and what was verified of them.
#[derive(Debug)]
pub struct Basic {
    pub(super) challenge: Box<[u8]>,
    user_header: Option<String>,
    users: Vec<(String, Hash)>,
    by_name: FxHashMap<Vec<u8>, usize>,
    verified: Cache<u32>,
}

impl Basic {
    pub(super) fn compile(rules: &BasicFilter) -> Result<Self, (String, String)> {
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
            users,
            by_name,
            verified: Cache::new(REMEMBERED),
        })
    }

    pub(super) fn judge(&self, credentials: Option<&[u8]>, passed: &mut FilterContext) -> Verdict {
        let Some(credentials) = credentials.filter(|given| given.len() <= LONGEST) else {
            return Verdict::Unknown;
        };
        let digest = sha256(&[credentials]);
        if let Some(user) = self.verified.get(&digest) {
            self.pass(user as usize, passed);
            return Verdict::Pass;
        }
        let Some(decoded) = base64(credentials, true) else {
            return Verdict::Unknown;
        };
        let Some(colon) = memchr::memchr(b':', &decoded) else {
            return Verdict::Unknown;
        };
        let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
        let user = self.by_name.get(name).copied();
        let hash = match user {
            Some(user) => &self.users[user].1,
            // A name that is not there must take as long as a wrong password.
            None => match self.users.iter().find(|(_, hash)| hash.is_slow()) {
                Some((_, hash)) => hash,
                None => return Verdict::Unknown,
            },
        };
        if hash.is_slow() {
            return Verdict::Check(Pending {
                hash: hash.clone(),
                password: password.to_vec(),
                user,
                digest,
            });
        }
        match user {
            Some(user) if hash.verify(password) => {
                self.remember(digest, user);
                self.pass(user, passed);
                Verdict::Pass
            }
            _ => Verdict::Unknown,
        }
    }

    /// Remembers credentials that were found right.
    pub fn remember(&self, digest: [u8; 32], user: usize) {
        self.verified.put(digest, user as u32);
    }

    /// Notes who it is.
    pub fn pass(&self, user: usize, passed: &mut FilterContext) {
        let name = self.users[user].0.as_bytes();
        passed.user.clear();
        passed.user.extend_from_slice(name);
        if let Some(header) = &self.user_header {
            passed.tell(header, name);
        }
    }
}
