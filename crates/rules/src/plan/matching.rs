//! Which requests a route, or an arm of a split, takes.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which requests a route takes. Of several that take a request the most specific wins; the order
/// is that of [`crate::route`]. Every member that is not `null` or empty must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The host without port, or `*.` and a domain for all hosts below it; `null` is any.
    pub host: Option<String>,
    /// The path; `null` is any.
    pub path: Option<PathMatch>,
    /// Among routes of one host and path the higher goes first.
    pub priority: i32,
    /// One of these methods.
    pub methods: Vec<String>,
    /// Header fields by name.
    pub headers: Vec<(String, ValueMatch)>,
    /// Parameters of the query by name.
    pub query: Vec<(String, ValueMatch)>,
    /// Cookies by name.
    pub cookies: Vec<(String, ValueMatch)>,
    /// The client's address is in one of these.
    pub client: Vec<IpNet>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PathMatch {
    /// The very path.
    Exact(String),
    /// Whole leading segments: `/users` takes `/users` and `/users/7` but not `/users2`.
    Prefix(String),
    /// Segment by segment; `null` is any segment that is not empty.
    Template(Vec<Option<String>>),
    /// Leading segments, compared as those of a template.
    TemplatePrefix(Vec<Option<String>>),
    /// A regular expression that takes the whole path.
    Regex(String),
}

/// How a value is compared: the first of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValueMatch {
    /// The very value.
    Exact(String),
    /// Any value at all, or none.
    Present(bool),
    /// A regular expression that takes the whole value.
    Regex(String),
}
