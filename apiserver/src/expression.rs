//! Expressions in configuration files of the server: they are compiled when a file is read, and
//! evaluated for each request.
//!
//! Upstream compiles what a file says as expressions that are stored already, so that a file means the
//! same to servers of all versions that take it.

use std::sync::Arc;

use cel::admission::Invalid;
use cel::{Activation, Environment, PER_CALL_LIMIT, Program, Type, Value};
use proto::path::{FieldError, Reason};

/// An expression. Two are the same if they read the same: what is compared is compiled in one
/// environment.
#[derive(Clone, Debug)]
pub struct Expression {
    text: Arc<str>,
    program: Program,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// # Errors
    /// What is wrong with it, at the field that it is of.
    pub fn compile(environment: &Environment, text: &str, at: &str) -> Result<Self, FieldError> {
        let program = environment.compile(text).map_err(|rejected| {
            let Invalid { detail, internal } = rejected.into();
            if internal {
                FieldError::new(Reason::Internal, at, String::new(), detail)
            } else {
                FieldError::invalid(at, text, detail)
            }
        })?;
        Ok(Self {
            text: text.into(),
            program,
        })
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its value, as far as it is known.
    #[must_use]
    pub fn gives(&self) -> &Type {
        self.program.result_type()
    }

    /// Its value.
    ///
    /// # Errors
    /// Why it has none, with the expression.
    pub fn evaluate<'a>(&self, given: &'a dyn Activation) -> Result<Value<'a>, String> {
        let outcome = self.program.evaluate(given, PER_CALL_LIMIT).outcome;
        outcome.map_err(|e| format!("expression '{}' resulted in error: {e}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use cel::Version;

    use super::*;

    fn compile(text: &str) -> Result<Expression, FieldError> {
        let environment = Environment::new(Version::STORED);
        Expression::compile(&environment, text, "a.b")
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_told_at_its_field() {
        let told = compile("x").unwrap_err().to_string();
        assert_eq!(
            told,
            "a.b: Invalid value: \"x\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n \
             | x\n | ^"
        );
        let told = compile("int('x') == 1").unwrap_err().to_string();
        assert!(
            told.starts_with("a.b: Internal error: program instantiation failed: "),
            "{told}"
        );
        assert_eq!(compile("'a' + 'b'").unwrap().gives(), &Type::String);
    }

    #[test]
    fn an_evaluation_has_a_limit() {
        let long = "[1,2,3,4,5,6,7,8,9,0]";
        let all = |inner: &str| format!("{long}.all(x, {inner})");
        let deep = all(&all(&all(&all(&all(&all("x >= 0"))))));
        let told = compile(&deep).unwrap().evaluate(&()).unwrap_err();
        assert!(
            told.ends_with("resulted in error: operation cancelled: actual cost limit exceeded"),
            "{told}"
        );
        let told = compile("[1][1] == 1").unwrap().evaluate(&());
        assert_eq!(
            told.unwrap_err(),
            "expression '[1][1] == 1' resulted in error: index out of bounds: 1"
        );
    }

    #[test]
    fn expressions_are_the_same_if_they_read_the_same() {
        assert_eq!(compile("1 == 1").unwrap(), compile("1 == 1").unwrap());
        assert_ne!(compile("1 == 1").unwrap(), compile("1==1").unwrap());
    }
}
