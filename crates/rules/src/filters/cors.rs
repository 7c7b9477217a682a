//! Cross-origin resource sharing, as the Fetch standard has browsers ask for it.
//!
//! evenflow answers preflight requests itself, at this step's place in the chain, and adds its fields
//! to responses; fields of the same kind that a backend sent are replaced, since browsers refuse two
//! answers. If several steps of a chain are of this kind, the rules of the last one hold, and the
//! first one answers preflight requests with them. A request of an origin that is not allowed is
//! served all the same: the browser keeps the response from the page, and other clients are not
//! concerned.

use evenflow_wire::field::is_token;

use crate::plan;

/// The rules, with the lines of the answer made in advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    methods: List,
    headers: List,
    max_age_line: String,
    /// For every response to an allowed origin.
    expose_line: String,
    credentials_line: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origins {
    All,
    /// Lower case, without default ports.
    Only(Vec<Box<[u8]>>),
}

/// What a preflight is told about methods or header fields.
#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    /// This line, or nothing.
    Line(String),
    /// What it asks for.
    Reflect,
}

impl Cors {
    /// Checks the rules.
    ///
    /// # Errors
    /// The path of what is wrong and what is wrong with it.
    pub fn compile(cors: &plan::CorsPlan) -> Result<Self, (String, String)> {
        let credentials = cors.allow_credentials;
        let all = cors.allow_origins.iter().any(|origin| origin == "*");
        if all && credentials {
            let message = "any site could act for its visitors: name the origins instead of `*`";
            return Err(("allow_credentials".into(), message.into()));
        }
        if all && cors.allow_origins.len() > 1 {
            return Err((
                "allow_origins".into(),
                "`*` allows all others already".into(),
            ));
        }
        let origins = if all {
            Origins::All
        } else {
            Origins::Only(checked_origins(cors)?)
        };
        for (index, method) in cors.allow_methods.iter().enumerate() {
            if !is_token(method.as_bytes()) {
                let message = format!("{method:?} is not a method");
                return Err((format!("allow_methods[{index}]"), message));
            }
        }
        check_names("allow_headers", &cors.allow_headers)?;
        check_names("expose_headers", &cors.expose_headers)?;
        if credentials && cors.expose_headers.iter().any(|name| name == "*") {
            let message = "with credentials, `*` is no wildcard: name the fields";
            return Err(("expose_headers".into(), message.into()));
        }

        // With credentials, browsers take `*` for a name; so what they ask for is repeated.
        let reflects = |list: &[String]| credentials && list.iter().any(|item| item == "*");
        let methods = if reflects(&cors.allow_methods) {
            List::Reflect
        } else {
            List::Line(line("Access-Control-Allow-Methods", &cors.allow_methods))
        };
        let headers = if cors.allow_headers.is_empty() || reflects(&cors.allow_headers) {
            List::Reflect
        } else {
            List::Line(line("Access-Control-Allow-Headers", &cors.allow_headers))
        };
        Ok(Self {
            origins,
            methods,
            headers,
            max_age_line: format!("Access-Control-Max-Age: {}\r\n", cors.max_age_s),
            expose_line: line("Access-Control-Expose-Headers", &cors.expose_headers),
            credentials_line: if credentials {
                "Access-Control-Allow-Credentials: true\r\n"
            } else {
                ""
            },
        })
    }

    /// The header lines that answer a preflight request: `OPTIONS` with the fields `Origin`,
    /// `Access-Control-Request-Method` and, unless empty, `Access-Control-Request-Headers`. `None`
    /// if the origin is not allowed; an answer without such lines says so to the browser.
    pub fn preflight(
        &self,
        origin: &[u8],
        request_method: &[u8],
        request_headers: &[u8],
    ) -> Option<Vec<u8>> {
        if !self.allows(origin) {
            return None;
        }
        let mut out = Vec::with_capacity(256);
        self.origin_lines(origin, &mut out);
        match &self.methods {
            List::Line(line) => out.extend_from_slice(line.as_bytes()),
            List::Reflect if is_token(request_method) => {
                reflect(&mut out, "Access-Control-Allow-Methods", request_method);
            }
            List::Reflect => {}
        }
        match &self.headers {
            List::Line(line) => out.extend_from_slice(line.as_bytes()),
            List::Reflect if is_token_list(request_headers) && !request_headers.is_empty() => {
                reflect(&mut out, "Access-Control-Allow-Headers", request_headers);
            }
            List::Reflect => {}
        }
        out.extend_from_slice(self.max_age_line.as_bytes());
        if self.methods == List::Reflect {
            out.extend_from_slice(b"Vary: Access-Control-Request-Method\r\n");
        }
        if self.headers == List::Reflect {
            out.extend_from_slice(b"Vary: Access-Control-Request-Headers\r\n");
        }
        Some(out)
    }

    /// Writes the header lines of a response to a request with this `Origin` field; empty if it had
    /// none. What a cache keeps must serve other origins too: so `*` is sent to all, and where the
    /// answer depends on the origin, caches are told so either way.
    pub fn response_lines(&self, origin: &[u8], out: &mut Vec<u8>) {
        if self.allows(origin) {
            self.origin_lines(origin, out);
            out.extend_from_slice(self.expose_line.as_bytes());
        } else {
            out.extend_from_slice(b"Vary: Origin\r\n");
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        match &self.origins {
            Origins::All => true,
            Origins::Only(origins) => origins
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        }
    }

    /// For an origin that is allowed.
    fn origin_lines(&self, origin: &[u8], out: &mut Vec<u8>) {
        match &self.origins {
            Origins::All => out.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n"),
            Origins::Only(_) => {
                // Equal to a checked one, so it cannot break the line.
                reflect(out, "Access-Control-Allow-Origin", origin);
                out.extend_from_slice(self.credentials_line.as_bytes());
                out.extend_from_slice(b"Vary: Origin\r\n");
            }
        }
    }
}

fn checked_origins(cors: &plan::CorsPlan) -> Result<Vec<Box<[u8]>>, (String, String)> {
    let origins = cors.allow_origins.iter().enumerate();
    origins
        .map(|(index, origin)| {
            checked_origin(origin).ok_or_else(|| {
                let message =
                    format!("expected scheme://host[:port], `null` or `*`, got {origin:?}");
                (format!("allow_origins[{index}]"), message)
            })
        })
        .collect()
}

/// The origin as browsers write it.
fn checked_origin(origin: &str) -> Option<Box<[u8]>> {
    let origin = origin.to_ascii_lowercase();
    if origin == "null" {
        return Some(origin.into_bytes().into());
    }
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = match authority.rsplit_once(':') {
        // A colon within the brackets of an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
        None => (authority, None),
    };
    let within = |text: &str, others: &[u8]| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && text.bytes().all(known)
    };
    let host_valid = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(ipv6) => ipv6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => within(host, b"-._~"),
    };
    if !host_valid || !within(scheme, b"+-.") {
        return None;
    }
    let origin = match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    };
    Some(origin.into_bytes().into())
}

fn check_names(list: &str, names: &[String]) -> Result<(), (String, String)> {
    for (index, name) in names.iter().enumerate() {
        if !is_token(name.as_bytes()) {
            let message = format!("{name:?} is not a header field's name");
            return Err((format!("{list}[{index}]"), message));
        }
    }
    Ok(())
}

/// A line with all items, or nothing if there are none.
fn line(name: &str, items: &[String]) -> String {
    if items.is_empty() {
        String::new()
    } else {
        format!("{name}: {}\r\n", items.join(", "))
    }
}

fn reflect(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Names between commas and spaces: nothing that could break a line.
fn is_token_list(bytes: &[u8]) -> bool {
    bytes
        .split(|byte| matches!(byte, b',' | b' '))
        .all(|item| item.is_empty() || is_token(item))
}
