//! What a route asks of a request besides host and path.

use std::net::IpAddr;

use regex::bytes::Regex;

use crate::filters::ip_set::IpSet;
use crate::key::key_bytes;
use crate::plan::{Match, RequestKey, ValueMatch};
use crate::route::pattern::anchored;
use crate::route::query::{RouteError, RouteQuery};

/// Conditions that must all hold.
#[derive(Debug)]
pub struct Conditions {
    methods: Box<[Box<str>]>,
    values: Box<[Condition]>,
    client: Option<IpSet>,
    /// As they stand in the plan, to tell whether two are the same.
    source: Box<Match>,
}

#[derive(Debug)]
struct Condition {
    key: RequestKey,
    value: Value,
}

type KeyOf = fn(String) -> RequestKey;

#[derive(Debug)]
enum Value {
    Exact(Box<[u8]>),
    Present(bool),
    Regex(Regex),
}

impl Conditions {
    /// Compiles the conditions of a route; `None` when it has none.
    ///
    /// # Errors
    /// What is wrong with a regular expression, and where.
    pub fn compile(matcher: &Match) -> Result<Option<Box<Self>>, RouteError> {
        let mut values = Vec::new();
        let mut add = |group: &str, members: &[(String, ValueMatch)], key: KeyOf| {
            for (name, value) in members {
                let value = match value {
                    ValueMatch::Exact(text) => Value::Exact(text.as_bytes().into()),
                    ValueMatch::Present(present) => Value::Present(*present),
                    ValueMatch::Regex(pattern) => Value::Regex(
                        anchored(pattern)
                            .map_err(|error| RouteError::Wrong(format!("{group}.{name}"), error))?,
                    ),
                };
                let key = key(name.clone());
                values.push(Condition { key, value });
            }
            Ok(())
        };
        add("headers", &matcher.headers, RequestKey::Header)?;
        add("query", &matcher.query, RequestKey::Query)?;
        add("cookies", &matcher.cookies, RequestKey::Cookie)?;
        if matcher.methods.is_empty() && values.is_empty() && matcher.client.is_empty() {
            return Ok(None);
        }
        let mut source = Match {
            host: None,
            path: None,
            priority: 0,
            ..matcher.clone()
        };
        source.methods.sort_unstable();
        for group in [&mut source.headers, &mut source.query, &mut source.cookies] {
            group.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        source.client.sort_unstable();
        Ok(Some(Box::new(Self {
            methods: matcher
                .methods
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            values: values.into(),
            client: (!matcher.client.is_empty()).then(|| IpSet::new(&matcher.client, &[])),
            source: Box::new(source),
        })))
    }

    /// How many there are: the more, the more specific.
    pub fn count(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + self.values.len()
            + usize::from(self.client.is_some())
    }

    /// Whether these are the same conditions, in whatever order.
    pub fn same(&self, other: &Self) -> bool {
        self.source == other.source
    }

    /// Whether all hold for a request.
    pub fn hold(&self, asked: &RouteQuery<'_>) -> bool {
        self.method_holds(asked)
            && self.client_holds(asked.client)
            && self.values.iter().all(|condition| condition.holds(asked))
    }

    /// The first condition that does not hold, in words.
    pub fn failing(&self, asked: &RouteQuery<'_>) -> Option<String> {
        if !self.method_holds(asked) {
            return Some(format!("the method is not {}", self.methods.join(" or ")));
        }
        if !self.client_holds(asked.client) {
            return Some("the client's address is in none of its networks".into());
        }
        let failing = self.values.iter().find(|condition| !condition.holds(asked));
        failing.map(Condition::in_words)
    }

    fn method_holds(&self, asked: &RouteQuery<'_>) -> bool {
        let method = asked.head.method.get(asked.base);
        self.methods.is_empty() || self.methods.iter().any(|one| one.as_bytes() == method)
    }

    fn client_holds(&self, client: Option<IpAddr>) -> bool {
        match &self.client {
            None => true,
            Some(set) => client.is_some_and(|client| set.permits(client)),
        }
    }
}

impl Condition {
    fn holds(&self, asked: &RouteQuery<'_>) -> bool {
        if let RequestKey::Query(name) = &self.key {
            let query = asked.head.query(asked.base);
            return self.holds_for_query(query, name.as_bytes());
        }
        let found = key_bytes(&self.key, asked.head, asked.base);
        match (&self.value, found) {
            (Value::Present(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (Value::Exact(text), Some(found)) => **text == *found,
            (Value::Regex(regex), Some(found)) => regex.is_match(found),
        }
    }

    /// As a form is read: `%20` and `+` are spaces, a parameter without `=` is empty.
    fn holds_for_query(&self, query: &[u8], name: &[u8]) -> bool {
        let mut parts = query.split(|&byte| byte == b'&').map(|part| {
            let equals = memchr::memchr(b'=', part).unwrap_or(part.len());
            (&part[..equals], part.get(equals + 1..).unwrap_or_default())
        });
        let found = parts.find(|(key, _)| !key.is_empty() && decoded(key).eq(name.iter().copied()));
        match (&self.value, found) {
            (Value::Present(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (Value::Exact(text), Some((_, value))) => decoded(value).eq(text.iter().copied()),
            (Value::Regex(regex), Some((_, value))) => {
                regex.is_match(&decoded(value).collect::<Vec<_>>())
            }
        }
    }

    fn in_words(&self) -> String {
        let name = match &self.key {
            RequestKey::Header(name) => format!("header {name}"),
            RequestKey::Cookie(name) => format!("cookie {name}"),
            RequestKey::Query(name) => format!("query parameter {name}"),
            other => format!("{other:?}"),
        };
        match &self.value {
            Value::Exact(text) => format!("{name} is not {:?}", String::from_utf8_lossy(text)),
            Value::Present(true) => format!("there is no {name}"),
            Value::Present(false) => format!("there is a {name}"),
            Value::Regex(_) => format!("{name} does not match"),
        }
    }
}

/// A part of a query with its percent-encoding undone.
fn decoded(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *bytes.get(at)?;
        at += 1;
        let digit = |byte: u8| (byte as char).to_digit(16);
        if first == b'%'
            && let (Some(&high), Some(&low)) = (bytes.get(at), bytes.get(at + 1))
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            at += 2;
            return Some((high << 4 | low) as u8);
        }
        Some(if first == b'+' { b' ' } else { first })
    })
}
