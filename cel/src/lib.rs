//! The expression language of Kubernetes (CEL, `k8s.io/apiserver/pkg/cel` on `cel-go`): validation
//! rules of custom resources, admission policies, match conditions, mappings of claims, selectors of
//! devices.
//!
//! Pure: no IO, no async, no clock.
//!
//! ```text
//! text -> parser -> ast -> check (types, overloads) -> validate -> cost (estimate)
//!                                                           \-> plan -> program -> evaluate (values, cost)
//! ```
//!
//! An [`Environment`] is built once: functions of a compatibility version, variables, object types. It
//! compiles an expression to a [`Program`], or tells the [`Issues`] in the words that clients of
//! upstream see. A program is evaluated with an [`Activation`], which gives the variables when they are
//! asked for, and within a cost. Values borrow from the objects that are read.
//!
//! ```
//! use cel::{Activation, Environment, Outcome, PER_CALL_LIMIT, Type, Value, Version};
//!
//! struct Labels(proto::Value);
//!
//! impl Activation for Labels {
//!     fn get(&self, name: &str) -> Option<Outcome<'_>> {
//!         (name == "object").then(|| Ok(Value::of(&self.0)))
//!     }
//! }
//!
//! let environment = Environment::new(Version::DEFAULT).with_variable("object", Type::Dyn);
//! let program = environment.compile("object.metadata.name.startsWith('kube-')").unwrap();
//! assert_eq!(program.result_type(), &Type::Bool);
//!
//! let mut pod = proto::Value::Null;
//! pod.set(&["metadata", "name"], "kube-proxy");
//! let activation = Labels(pod);
//! let evaluated = program.evaluate(&activation, PER_CALL_LIMIT);
//! assert_eq!(evaluated.outcome.unwrap().as_bool(), Some(true));
//! assert_eq!(evaluated.cost, 4);
//! ```
//!
//! Whoever may have to wait for an answer inside an expression (an authorizer that asks a webhook)
//! gives none, waits after the evaluation, and evaluates again: see [`Authorizer`].
//!
//! What an expression can cost is bounded three times: by its size and nesting when it is read, by its
//! estimate where upstream limits that, by the cost that it runs up. Costs are upstream's to the unit,
//! because they decide what is accepted.

pub mod admission;
mod ast;
mod check;
mod cost;
pub mod device;
mod environment;
mod error;
mod escape;
mod eval;
mod library;
mod parser;
mod plan;
mod program;
mod schema;
mod selections;
mod source;
mod types;
mod validate;
mod value;

pub use cost::CostEstimate;
pub use environment::{Environment, Rejected, Version};
pub use error::Error;
pub use escape::{escape, is_reserved, unescape};
pub use library::{Pattern, format};
pub use program::{Activation, Evaluated, Program};
pub use schema::{Root, Schema};
pub use selections::Selection;
pub use source::{Issue, Issues, Place};
pub use types::Type;
pub use value::{
    Authorizer, Check, Decision, Fields, List, Map, Object, Octets, Opaque, Outcome, Text,
    Timestamp, Value,
};

/// What one evaluation may cost (`apiserver/pkg/apis/cel/config.go`, as the next three).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of a custom resource, or of a policy's binding, may cost for one request.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// What all match conditions of a webhook or policy may cost for one object.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// The longest message that an expression may make, in bytes.
pub const MAX_MESSAGE: usize = 5 * 1024;
