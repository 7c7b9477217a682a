//! What a filter primitive is, and what it works with.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use evenflow_wire::edit::Edit;
use evenflow_wire::http1::head::{RequestHead, ResponseHead};

use crate::filters::context::FilterContext;
use crate::filters::cors::Cors;
use crate::filters::fleet::FleetUsage;
use crate::filters::state::FilterState;
use crate::password::Hash;
use crate::plan;
use crate::reason::Reason;
use crate::route::RouteQuery;

/// The path below a filter, and what is wrong there.
pub type PathError = (String, String);

/// A request as filters see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The client's address as far as it is believed.
    pub client: Option<IpAddr>,
    /// The head.
    pub head: &'a RequestHead,
    /// The bytes that the head was parsed from.
    pub base: &'a [u8],
    /// The engine's clock in nanoseconds.
    pub now_ns: u64,
    /// The route's number that outlives tables; 0 without one.
    pub route: u32,
    /// Whether the client is known to use TLS: cookies for it never travel without.
    pub secure: bool,
}

impl<'a> RequestView<'a> {
    /// The request as routes see it.
    pub fn asked(&self) -> RouteQuery<'a> {
        RouteQuery {
            host: self.head.host.get(self.base),
            path: self.head.path(self.base),
            head: self.head,
            base: self.base,
            client: self.client,
        }
    }

    /// The value of the first field of a name, in any case; empty without one.
    pub fn field(&self, name: &[u8]) -> &'a [u8] {
        let mut fields = self.head.fields.iter();
        let field = fields.find(|field| field.name.get(self.base).eq_ignore_ascii_case(name));
        field.map_or(b"", |field| field.value.get(self.base))
    }
}

/// A request on its way through a chain.
#[derive(Debug)]
pub struct FilterRequest<'a> {
    /// The request as it was received.
    pub view: &'a RequestView<'a>,
    /// What steps left so far.
    pub context: &'a mut FilterContext,
    /// Where the usage of limits of a fleet is noted; `None` where the request is only explained:
    /// nothing is counted or used up then.
    pub usage: Option<&'a FleetUsage>,
}

impl FilterRequest<'_> {
    /// Whether the request is only explained.
    pub fn is_explained(&self) -> bool {
        self.usage.is_none()
    }
}

/// What a step says about a request.
#[derive(Debug)]
pub enum StepOutcome<'c> {
    /// The next step runs.
    Continue,
    /// A dry run: the refusal is counted, and the next step runs.
    WouldRefuse,
    /// The request ends here.
    Refuse(Refusal),
    /// The step answers the request itself.
    Respond(Response),
    /// The engine has to do something first.
    Wait(Wait<'c>),
}

/// What a step waits for.
#[derive(Debug)]
pub enum Wait<'c> {
    /// A slow password hash.
    Password(Box<PasswordCheck>),
    /// The answer of an authorization service.
    External(&'c Question),
}

/// What a step waited for.
#[derive(Debug)]
pub enum WaitResult<'a> {
    /// Whether the hash is the password's; `None` if too many passwords wait to be checked.
    Password(Box<PasswordCheck>, Option<bool>),
    /// The service's answer; `None` if there is none.
    External(Option<(&'a ResponseHead, &'a [u8])>),
}

/// A password whose slow hash another thread is to check.
#[derive(Debug)]
pub struct PasswordCheck {
    /// The hash.
    pub hash: Hash,
    /// The password that was presented.
    pub password: Vec<u8>,
    /// The number of the user; `None` for an unknown name, for which only time is spent.
    pub(super) user: Option<usize>,
    /// What the credentials are remembered under.
    pub(super) digest: [u8; 32],
}

/// What an authorization service is asked.
#[derive(Debug)]
pub struct Question {
    /// The configuration.
    pub rules: plan::ExternalFilter,
    /// The pool's index.
    pub pool: usize,
}

impl Wait<'_> {
    /// What decides about the request.
    pub fn decided_by(&self) -> &'static str {
        match self {
            Self::Password(_) => "the password's hash decides",
            Self::External(_) => "another service decides",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When it is worth trying again, in nanoseconds; 0 where that means nothing.
    pub retry_after_ns: u64,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            retry_after_ns: 0,
        }
    }
}

/// A response without content that a step makes.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header lines, each with its CRLF.
    pub lines: Vec<u8>,
}

/// What kind of step it is, for requests that only some steps concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Judges the client's address.
    Address,
    /// Bounds how often or how many.
    Limit,
    /// Finds out who sends the request.
    Auth,
    /// Cross-origin rules.
    Cors,
    /// Edits header fields.
    Edit,
    /// Bounds the body.
    Body,
}

/// Which steps of a chain run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All: a request that a route takes or that no route takes.
    All,
    /// Addresses and limits: a connection of layer 4, and a request that is redirected to `https`,
    /// which must not be asked for credentials in the clear.
    Connection,
    /// Addresses and cross-origin rules: the control plane's own pages stay readable for monitoring,
    /// whatever the traffic's rate, and authenticate by themselves.
    Internal,
    /// None: proofs of control for certificate authorities are for everybody.
    Public,
}

impl Scope {
    /// Whether steps of this class run.
    pub fn includes(self, class: Class) -> bool {
        match self {
            Self::All => true,
            Self::Connection => matches!(class, Class::Address | Class::Limit),
            Self::Internal => matches!(class, Class::Address | Class::Cors),
            Self::Public => false,
        }
    }
}

/// What primitives are compiled with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// State of the previous table's filters, and of those compiled so far.
    pub state: &'a mut FilterState,
    /// The indices of pools by name.
    pub pools: &'a HashMap<&'a str, usize>,
}

/// What a chain does to heads, compiled while its steps are put one after another.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The result.
    pub edits: Edits,
    /// The smallest bound on the body, in bytes.
    pub body_limit: Option<u64>,
    /// Lower-case names of the fields that authentication of this chain sets.
    pub(super) set_fields: Vec<Box<[u8]>>,
    /// The header edits of the steps so far, as later steps see them.
    pub(super) edited: Edit,
}

impl Assembly {
    /// Whether authentication of this chain sets the field.
    pub fn is_set_by_filters(&self, name: &[u8]) -> bool {
        let mut names = self.set_fields.iter();
        names.any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// What a chain does to every request and response head.
#[derive(Debug, Default, Clone)]
pub struct Edits {
    /// Of the request.
    pub request: Edit,
    /// Of the response.
    pub response: Edit,
    /// Cross-origin rules.
    pub cors: Option<Arc<Cors>>,
}

/// A filter primitive. Dispatch is by the enum in `step.rs`, not by trait objects.
pub trait Primitive: Sized + Clone {
    /// Its part of the plan.
    type Rules;
    /// Its name in the plan.
    const NAME: &'static str;
    /// Its name in explanations.
    const CHECK: &'static str = Self::NAME;
    /// What kind of step it is.
    const CLASS: Class;

    /// Checks and compiles the rules.
    ///
    /// # Errors
    /// The path below the filter and what is wrong there.
    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError>;

    /// Says what concerns steps at any place of the chain, before the first one is assembled.
    ///
    /// # Errors
    /// As [`Primitive::compile`].
    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        let _ = assembly;
        Ok(())
    }

    /// Takes the step's place in the chain, behind those that are assembled already, and adds what
    /// it does to every request and response head.
    ///
    /// # Errors
    /// As [`Primitive::compile`].
    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        let _ = assembly;
        Ok(())
    }

    /// Settles a request by what the step waited for.
    ///
    /// # Errors
    /// Why the request is refused.
    fn settle(&self, result: WaitResult<'_>, context: &mut FilterContext) -> Result<(), Reason> {
        let _ = (result, context);
        Err(Reason::AuthUnavailable)
    }

    /// Judges a request.
    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        let _ = request;
        StepOutcome::Continue
    }
}
