//! Whether expressions compile: `validateCELCondition` and its like in
//! `pkg/apis/admissionregistration/validation`.
//!
//! New expressions must be such that the version before can read them; those that the old object had already are taken as any
//! version takes them.

use std::collections::HashSet;

use cel::Version;
use cel::admission::{Compiler, Use};
use proto::path::{Errors, Spot};

use crate::rules::uncompiled;

/// Expressions of one object, or of one webhook in it.
pub(super) struct Expressions<'a> {
    compiler: Compiler,
    /// Those that the old object had.
    kept: HashSet<(Use, &'a str)>,
}

impl<'a> Expressions<'a> {
    pub(super) fn new(compiler: Compiler, kept: impl IntoIterator<Item = (Use, &'a str)>) -> Self {
        Self {
            compiler,
            kept: kept.into_iter().collect(),
        }
    }

    /// Which version an expression must do with, as it would have been kept.
    fn version(&self, kept: (Use, &str)) -> Version {
        if self.kept.contains(&kept) {
            Version::STORED
        } else {
            Version::DEFAULT
        }
    }

    /// Compiles an expression that may have been there already; `kept` says as what.
    pub(super) fn check(
        &mut self,
        e: &mut Errors<'_>,
        at: Spot<'_>,
        (of, expression): (Use, &str),
        kept: (Use, &str),
    ) {
        self.check_shown(e, at, (of, expression), kept, expression);
    }

    /// The same, where something else than what is compiled is told to be wrong.
    pub(super) fn check_shown(
        &mut self,
        e: &mut Errors<'_>,
        at: Spot<'_>,
        (of, expression): (Use, &str),
        kept: (Use, &str),
        shown: &str,
    ) {
        let version = self.version(kept);
        let compiled = self.compiler.compile(expression, of, version);
        if let Err(invalid) = compiled {
            uncompiled(e, at, shown, invalid);
        }
    }

    /// Compiles a variable, and declares it to what is compiled after it.
    pub(super) fn declare(
        &mut self,
        e: &mut Errors<'_>,
        at: Spot<'_>,
        name: &str,
        expression: &str,
    ) {
        // Upstream looks for it among the old validations, not among the old variables.
        let version = self.version((Use::Condition, expression));
        let compiled = self.compiler.declare(name, expression, version);
        if let Err(invalid) = compiled {
            uncompiled(e, at, expression, invalid);
        }
    }
}
