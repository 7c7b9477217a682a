//! The registry of filter primitives: a line each.

use crate::filters::context::FilterContext;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome, WaitResult,
};
use crate::filters::{auth, body_limit, concurrency, headers, ip_set, preflight, rate_limit};
use crate::plan;
use crate::reason::Reason;

/// Puts the primitive's name before the path.
fn below<P: Primitive>((path, message): PathError) -> PathError {
    (format!("{}.{path}", P::NAME), message)
}

/// Registers primitives: a line each, the plan's variant and the type.
macro_rules! primitives {
    ($($variant:ident($primitive:ty),)*) => {
        /// A step of a chain.
        #[derive(Debug, Clone)]
        pub enum Step {
            $(
                #[doc = concat!("See [`", stringify!($primitive), "`].")]
                $variant($primitive),
            )*
        }

        impl Step {
            /// Compiles a filter of the plan.
            ///
            /// # Errors
            /// The path from the filter's own name on, and what is wrong there.
            pub fn compile(
                filter: &plan::Filter,
                setup: &mut Setup<'_>,
            ) -> Result<Self, PathError> {
                match filter {
                    $(plan::Filter::$variant(rules) => {
                        let compiled = <$primitive>::compile(rules, setup);
                        compiled.map(Self::$variant).map_err(below::<$primitive>)
                    })*
                }
            }

            /// Its name in explanations.
            pub fn check(&self) -> &'static str {
                match self { $(Self::$variant(_) => <$primitive>::CHECK,)* }
            }

            /// What kind of step it is.
            pub fn class(&self) -> Class {
                match self { $(Self::$variant(_) => <$primitive>::CLASS,)* }
            }

            /// See [`Primitive::announce`].
            ///
            /// # Errors
            /// As [`Step::compile`].
            pub fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
                match self {
                    $(Self::$variant(step) => {
                        step.announce(assembly).map_err(below::<$primitive>)
                    })*
                }
            }

            /// See [`Primitive::assemble`].
            ///
            /// # Errors
            /// As [`Step::compile`].
            pub fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
                match self {
                    $(Self::$variant(step) => {
                        step.assemble(assembly).map_err(below::<$primitive>)
                    })*
                }
            }

            /// Settles a request by what the step waited for.
            ///
            /// # Errors
            /// Why the request is refused.
            pub fn settle(
                &self,
                result: WaitResult<'_>,
                context: &mut FilterContext,
            ) -> Result<(), Reason> {
                match self { $(Self::$variant(step) => step.settle(result, context),)* }
            }

            /// Judges a request.
            pub fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
                match self { $(Self::$variant(step) => step.on_request(request),)* }
            }
        }
    };
}

primitives! {
    IpSet(ip_set::AddressCheck),
    Limit(rate_limit::RateLimit),
    Concurrency(concurrency::ConcurrencyLimit),
    RequestHeaders(headers::RequestHeaders),
    ResponseHeaders(headers::ResponseHeaders),
    BodyLimit(body_limit::BodySizeCheck),
    Cors(preflight::CorsStep),
    Basic(auth::basic::BasicStep),
    Bearer(auth::bearer::BearerStep),
    Jwt(auth::jwt::JwtStep),
    External(auth::external::ExternalStep),
}
