//! A compiled expression.

use std::fmt;
use std::sync::Arc;

use crate::cost::CostEstimate;
use crate::eval::Frame;
use crate::plan::{Plan, Step};
use crate::types::Type;
use crate::value::Outcome;

/// The variables of an evaluation.
pub trait Activation {
    /// The value of a declared variable, which may be computed now; it is asked for whenever the
    /// expression uses it. None: there is no such variable.
    fn get(&self, name: &str) -> Option<Outcome<'_>>;
}

/// No variables.
impl Activation for () {
    fn get(&self, _name: &str) -> Option<Outcome<'_>> {
        None
    }
}

/// What an evaluation gave, and what it cost.
#[derive(Debug)]
pub struct Evaluated<'a> {
    pub outcome: Outcome<'a>,
    /// Also of an evaluation that failed.
    pub cost: u64,
}

/// An expression, ready to be evaluated. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) plan: Plan,
    pub(crate) root: Step,
    pub(crate) result: Type,
    pub(crate) estimate: CostEstimate,
    pub(crate) variables: Vec<Box<str>>,
}

impl Program {
    pub(crate) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The type of its value.
    #[must_use]
    pub fn result_type(&self) -> &Type {
        &self.inner.result
    }

    /// What an evaluation can cost at least and at most, by the sizes that the environment knows.
    #[must_use]
    pub fn estimate(&self) -> CostEstimate {
        self.inner.estimate
    }

    /// The variables it reads, each once.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.inner.variables.iter().map(|name| &**name)
    }

    /// Evaluates it, until it costs more than `limit`.
    #[must_use]
    pub fn evaluate<'a>(&self, activation: &'a dyn Activation, limit: u64) -> Evaluated<'a> {
        let mut frame = Frame::new(&self.inner.plan, activation, limit);
        let outcome = frame.eval(&self.inner.root);
        Evaluated {
            outcome,
            cost: frame.cost(),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({})", self.inner.result)
    }
}
