//! What would become of a request, told without sending anything or leaving a trace.

use std::net::IpAddr;

use evenflow_wire::http1::head::RequestHead;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::filters::context::FilterContext;
use crate::filters::{Chain, FilterRequest, Refusal, RequestView, Scope, StepOutcome};
use crate::key::hash_key;
use crate::picker::{Choice, Picked, Picker, Tried, pick};
use crate::plan::Protocol;
use crate::pool::Pool;
use crate::route::{RouteQuery, decode_in_place};
use crate::table::{Listener, Table};

/// A request to explain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The listener's name; `null` is the first.
    listener: Option<String>,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
}

/// What would become of it.
#[derive(Debug, Serialize)]
pub struct Explanation {
    listener: String,
    route: Option<String>,
    /// Routes of this host and path that are more specific, and why they do not take it.
    passed_over: Vec<SkippedEndpoint>,
    filters: Vec<FilterVerdict>,
    /// Why the split chose the pool.
    split: Option<&'static str>,
    /// What the backend is asked for, where the route rewrites it.
    target: Option<String>,
    pool: Option<String>,
    picker: Option<&'static str>,
    backend: Option<String>,
    reason: String,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
struct SkippedEndpoint {
    route: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct FilterVerdict {
    filter: String,
    /// What of the filter it is.
    check: &'static str,
    verdict: &'static str,
    status: u16,
    reason: &'static str,
    /// Who asks, where authentication found it out.
    user: Option<String>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    id: String,
    usable: bool,
    reason: &'static str,
}

/// Explains a request.
///
/// # Errors
/// The member of the description that is wrong, and why.
#[allow(clippy::too_many_lines)] // One phase after the other, as in an exchange.
pub fn explain(
    table: &Table,
    request: &ExplainRequest,
    now_ms: u64,
) -> Result<Explanation, (&'static str, String)> {
    let listener = match &request.listener {
        None => table.listeners.first(),
        Some(name) => table.listeners.iter().find(|l| l.state.name == *name),
    };
    let Some(listener) = listener else {
        return Err(("listener", "there is no such listener".into()));
    };
    let mut told = Explanation {
        listener: listener.state.name.clone(),
        route: None,
        passed_over: Vec::new(),
        filters: Vec::new(),
        split: None,
        target: None,
        pool: None,
        picker: None,
        backend: None,
        reason: String::new(),
        candidates: Vec::new(),
    };
    if listener.protocol != Protocol::Http {
        let head = RequestHead::default();
        let view = view_of(request, &head, b"", 0);
        told.run_filters(&listener.chain, Scope::Connection, &view);
        if let Some(pool) = listener.pool {
            told.choose(&table.pools[pool], None, request.client, now_ms);
        }
        return Ok(told);
    }
    let (head, bytes) = parse(listener, request)?;
    let asked = RouteQuery {
        host: head.host.get(&bytes),
        path: head.path(&bytes),
        head: &head,
        base: &bytes,
        client: request.client,
    };
    let mut passed_over = Vec::new();
    let found = listener.router.each(asked.host, asked.path, |candidate| {
        let route = &table.routes[candidate.route];
        let failing = candidate
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.failing(&asked));
        match failing {
            None => Some(candidate.route),
            Some(reason) => {
                passed_over.push(SkippedEndpoint {
                    route: route.name.to_string(),
                    reason,
                });
                None
            }
        }
    });
    told.passed_over = passed_over;
    let Some(index) = found else {
        let view = view_of(request, &head, &bytes, 0);
        told.run_filters(&listener.chain, Scope::All, &view);
        told.reason = "no route takes this request".into();
        return Ok(told);
    };
    let route = &table.routes[index];
    told.route = Some(route.name.to_string());
    if let Err(refused) = listener.router.check_path(&asked) {
        let (status, label) = (refused.status(), refused.label());
        told.reason = format!("refused with {status} ({label}): {}", refused.message());
        return Ok(told);
    }
    let view = view_of(request, &head, &bytes, route.uid);
    told.run_filters(&listener.chains[index], route.scope(), &view);
    let pool = match &route.action {
        Action::Pool(pool) => *pool,
        Action::Split(split) => {
            let (pool, why) = split.explain(&view);
            told.split = Some(why);
            pool
        }
        Action::Own(own) => {
            let mut lines = Vec::new();
            own.push_lines(&mut lines, &view);
            let text = String::from_utf8_lossy(&lines).replace("\r\n", "; ");
            let status = own.status();
            told.reason = format!("the route answers by itself: {status} {text}");
            told.reason
                .truncate(told.reason.trim_end_matches([';', ' ']).len());
            return Ok(told);
        }
    };
    if let Some(target) = route.rewritten(&head, &bytes) {
        told.target = Some(String::from_utf8_lossy(&target).into_owned());
    }
    let request_parts = Some((&head, &*bytes));
    told.choose(&table.pools[pool], request_parts, request.client, now_ms);
    if told.backend.is_none()
        && let Some(fallback) = route.fallback
        && fallback != pool
        && told.filters.iter().all(|verdict| verdict.status == 0)
    {
        told.candidates.clear();
        told.choose(
            &table.pools[fallback],
            request_parts,
            request.client,
            now_ms,
        );
        told.reason = format!("fallback of {}: {}", table.pools[pool].name, told.reason);
    }
    Ok(told)
}

fn view_of<'a>(
    request: &ExplainRequest,
    head: &'a RequestHead,
    base: &'a [u8],
    route: u32,
) -> RequestView<'a> {
    RequestView {
        client: request.client,
        head,
        base,
        now_ns: 0,
        route,
        secure: false,
    }
}

/// Writes the request down and parses it as if it had been received, so that the answer is the one
/// a real request gets.
fn parse(
    listener: &Listener,
    request: &ExplainRequest,
) -> Result<(RequestHead, Vec<u8>), (&'static str, String)> {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    let has_host = request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        text.push_str("host: localhost\r\n");
    }
    for (name, value) in &request.headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    let mut head = RequestHead::default();
    head.parse(
        &bytes,
        listener.limits.headers as usize,
        listener.limits.target_bytes as usize,
    )
    .map_err(|reason| ("target", reason.message().to_owned()))?;
    if listener.decode_slashes {
        head.replace_path(&mut bytes, decode_in_place);
    }
    Ok((head, bytes))
}

impl Explanation {
    /// Walks the chain that a request runs, without counting or using anything up.
    fn run_filters(&mut self, chain: &Chain, scope: Scope, view: &RequestView<'_>) {
        let mut request = FilterRequest {
            view,
            context: &mut FilterContext::default(),
            usage: None,
        };
        for step in chain.explain(scope, &mut request) {
            let (verdict, status, reason) = match step.outcome {
                StepOutcome::Continue | StepOutcome::WouldRefuse => ("pass", 0, ""),
                StepOutcome::Refuse(Refusal { reason, .. }) => {
                    ("refused", reason.status(), reason.label())
                }
                StepOutcome::Respond(response) => ("answered", response.status, ""),
                StepOutcome::Wait(wait) => ("undecided", 0, wait.decided_by()),
            };
            self.filters.push(FilterVerdict {
                filter: step.filter.to_owned(),
                check: step.check,
                verdict,
                status,
                reason,
                user: step.user,
            });
        }
    }

    fn choose(
        &mut self,
        pool: &Pool,
        head: Option<(&RequestHead, &[u8])>,
        client: Option<IpAddr>,
        now_ms: u64,
    ) {
        self.pool = Some(pool.name.to_string());
        self.picker = Some(pool.picker.label());
        for member in pool.members.iter() {
            let usable = member.endpoint.usable(pool.looks_past_health());
            self.candidates.push(Candidate {
                id: member.endpoint.id.clone(),
                usable: usable.is_ok(),
                reason: usable
                    .err()
                    .map_or("", evenflow_state::endpoint::Unusable::label),
            });
        }
        if let Some(refused) = self.filters.iter().find(|verdict| verdict.status != 0) {
            let filter = &refused.filter;
            self.reason = match refused.verdict {
                "answered" => format!("filter {filter} answers it"),
                _ => format!("filter {filter} refuses it"),
            };
            return;
        }
        if pool.breaker.is_some() && !pool.state.breaker.allows() {
            self.reason = "the pool's breaker is open: it would be refused".into();
            return;
        }
        let hash = pool
            .picker
            .key()
            .map_or(0, |key| hash_key(key, head, client));
        let choice = Choice {
            hash,
            tried: &Tried::default(),
            now_ms,
            dry: true,
        };
        let session = pool
            .sticky
            .as_ref()
            .zip(head)
            .and_then(|(sticky, (head, base))| {
                let index = sticky.member(head, base)?;
                let member = pool.members.get(index as usize)?;
                member.endpoint.usable(false).is_ok().then_some(member)
            });
        if let Some(member) = session {
            self.backend = Some(member.endpoint.id.clone());
            self.reason = "its session is there".into();
            return;
        }
        match pick(&pool.candidates(), &choice) {
            Picked::Member(index) => {
                self.backend = Some(pool.members[index as usize].endpoint.id.clone());
                self.reason = match &pool.picker {
                    Picker::Cycle(_) => "next in the cycle".into(),
                    Picker::Hash { key, .. } => format!("by hash of {key:?}"),
                    Picker::Least { score, .. } => format!("lowest {score:?}"),
                };
            }
            Picked::Full => self.reason = "all usable endpoints are full: it would queue".into(),
            Picked::None if pool.panic == Some(crate::plan::Panic::Fail) => {
                self.reason = "too few endpoints are usable: it would be refused".into();
            }
            Picked::None if pool.broken(now_ms).is_some() => {
                self.reason = "open breakers leave no endpoint: it would be refused".into();
            }
            Picked::None => self.reason = "no endpoint is usable".into(),
        }
    }
}
