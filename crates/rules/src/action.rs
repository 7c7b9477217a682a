//! What a route does with a request: hand it to a pool, or answer by itself.

use crate::answer::Answer;
use crate::filters::RequestView;
use crate::plan::{self, Part};
use crate::rewrite::{Target, push_query};
use crate::split::Split;

/// A route's action.
#[derive(Debug)]
pub enum Action {
    /// This pool.
    Pool(usize),
    /// One of several.
    Split(Box<Split>),
    /// An answer of the balancer's own.
    Own(Box<Own>),
}

/// An answer that a route always gives.
#[derive(Debug)]
pub struct Own {
    status: u16,
    /// Header lines.
    lines: Vec<u8>,
    content_type: Box<str>,
    body: Box<[u8]>,
    /// Where `Location` points, and whether with the query.
    location: Option<(Target, bool)>,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Destination<'t> {
    /// To this pool; these header lines go with its answer.
    Forward(usize, Vec<u8>),
    /// Nowhere.
    Answer(&'t Own),
}

impl Action {
    /// Compiles an action; `pools` finds a pool's number by its name.
    ///
    /// # Errors
    /// The path below the route and what is wrong there.
    pub fn compile(
        action: &plan::ActionPlan,
        pools: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, (String, String)> {
        match action {
            plan::ActionPlan::Pool(name) => match pools(name) {
                Some(pool) => Ok(Self::Pool(pool)),
                None => Err(("action.pool".into(), format!("no pool {name:?}"))),
            },
            plan::ActionPlan::Split(split) => match Split::compile(split, pools) {
                Ok(split) => Ok(Self::Split(Box::new(split))),
                Err((below, text)) => Err((format!("action.split.{below}"), text)),
            },
            plan::ActionPlan::Redirect(redirect) => redirecting(redirect)
                .map(|own| Self::Own(Box::new(own)))
                .map_err(|(below, text)| (format!("action.redirect.{below}"), text)),
            plan::ActionPlan::Respond(respond) => responding(respond)
                .map(|own| Self::Own(Box::new(own)))
                .map_err(|(below, text)| (format!("action.respond.{below}"), text)),
        }
    }

    /// What becomes of a request.
    pub fn decide(&self, view: &RequestView<'_>) -> Destination<'_> {
        match self {
            Self::Pool(pool) => Destination::Forward(*pool, Vec::new()),
            Self::Split(split) => {
                let mut lines = Vec::new();
                Destination::Forward(split.choose(view, &mut lines), lines)
            }
            Self::Own(own) => Destination::Answer(own),
        }
    }
}

impl Own {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Adds its header lines.
    pub fn push_lines(&self, lines: &mut Vec<u8>, view: &RequestView<'_>) {
        lines.extend_from_slice(&self.lines);
        if let Some((target, keep_query)) = &self.location {
            let asked = view.asked();
            // A path that the pattern does not take stays.
            let mut place = target
                .make(asked.host, asked.path)
                .unwrap_or_else(|| asked.path.to_vec());
            if *keep_query {
                push_query(&mut place, view.head, view.base);
            }
            lines.extend_from_slice(b"location: ");
            lines.extend_from_slice(&place);
            lines.extend_from_slice(b"\r\n");
        }
    }

    /// The answer with these header lines.
    pub fn answer<'a>(&'a self, lines: &'a [u8]) -> Answer<'a> {
        Answer {
            content: (!self.content_type.is_empty()).then_some((&*self.content_type, &*self.body)),
            ..Answer::empty(self.status, lines)
        }
    }
}

fn redirecting(redirect: &plan::Redirect) -> Result<Own, (String, String)> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        let text = "expected 301, 302, 303, 307 or 308";
        return Err(("status".into(), text.into()));
    }
    let relative = matches!(redirect.to.first(), Some(Part::Text(text)) if text.starts_with("//"));
    if relative {
        return Err(("to".into(), "expected a path or a whole address".into()));
    }
    let target = Target::compile(redirect.pattern.as_deref(), &redirect.to)?;
    Ok(Own {
        status: redirect.status,
        lines: b"content-length: 0\r\n".to_vec(),
        content_type: "".into(),
        body: Box::default(),
        location: Some((target, redirect.keep_query)),
    })
}

fn responding(respond: &plan::Respond) -> Result<Own, (String, String)> {
    let wrong = |member: &str, text: &str| Err((member.to_owned(), text.to_owned()));
    if !(200..=599).contains(&respond.status) {
        return wrong("status", "expected 200 to 599");
    }
    let bodiless = matches!(respond.status, 204 | 304);
    if bodiless && !respond.body.is_empty() {
        return wrong("body", "expected none with this status");
    }
    let clean = |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    if !clean(&respond.content_type) {
        return wrong("content_type", "expected a media type");
    }
    let mut lines = Vec::new();
    for (name, value) in &respond.headers {
        let token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !token || !clean(value) {
            return wrong("headers", "expected names and values of header fields");
        }
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    let content_type = if bodiless {
        ""
    } else if respond.content_type.is_empty() {
        "text/plain; charset=utf-8"
    } else {
        &respond.content_type
    };
    Ok(Own {
        status: respond.status,
        lines,
        content_type: content_type.into(),
        body: respond.body.as_bytes().into(),
        location: None,
    })
}
