//! Authentication of a request: the gates of its listener and its route, one after the other.
//!
//! Only requests that meet a gate come here. What can be judged at once is; a slow password's hash
//! is checked by threads of its own, and an external service is asked over the network.

mod subrequest;
mod verifier;

use evenflow_rules::filters::auth::{AuthCheck, Pending, Verdict, unix_s};
use evenflow_rules::reason::Reason;
use evenflow_rules::table::{Listener, Route};

use crate::connection::Connection;
use crate::events::Event;
use crate::exchange::RequestContext;
use crate::worker::Scratch;

/// Whether a request passes the gates. What they found out is in `scratch.passed`.
///
/// # Errors
/// Why not; further lines for the answer are in `scratch.passed`.
pub async fn pass(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    route: &Route,
) -> Result<(), Reason> {
    for (_, gate) in context
        .listener
        .chain
        .gates
        .iter()
        .chain(&route.chain.gates)
    {
        let judged = match &**gate {
            AuthCheck::External(external) => {
                subrequest::ask(connection, scratch, context, external).await
            }
            gate => judge(connection, scratch, gate).await,
        };
        if let Err(reason @ (Reason::Unauthorized | Reason::Token(_))) = judged {
            gate.challenge(reason, &mut scratch.passed.response_lines);
        }
        judged?;
    }
    Ok(())
}

async fn judge(
    connection: &Connection,
    scratch: &mut Scratch,
    gate: &AuthCheck,
) -> Result<(), Reason> {
    let base = connection.buffer.bytes();
    let now_s = unix_s();
    match gate.judge(&scratch.request, base, now_s, &mut scratch.passed) {
        Verdict::Pass => Ok(()),
        Verdict::Unknown => Err(Reason::Unauthorized),
        Verdict::Unavailable => Err(Reason::AuthUnavailable),
        Verdict::Token(fault) => {
            if let AuthCheck::Jwt(jwt) = gate
                && fault == "token_unknown_key"
                && jwt.tells(now_s)
            {
                let filter = jwt.name.clone();
                connection
                    .worker
                    .shared
                    .events
                    .push(Event::UnknownKey { filter });
            }
            Err(Reason::Token(fault))
        }
        Verdict::Check(Pending {
            hash,
            password,
            user,
            digest,
        }) => {
            let right = verifier::verify(hash, password)
                .await
                .ok_or(Reason::AuthUnavailable)?;
            match (gate, user) {
                (AuthCheck::Basic(basic), Some(user)) if right => {
                    basic.remember(digest, user);
                    basic.pass(user, &mut scratch.passed);
                    Ok(())
                }
                _ => Err(Reason::Unauthorized),
            }
        }
    }
}

/// Whether a request meets no gate. The balancer's own pages have rules of their own.
pub fn is_open(listener: &Listener, route: &Route) -> bool {
    route.internal || (listener.chain.gates.is_empty() && route.chain.gates.is_empty())
}
