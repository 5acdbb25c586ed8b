//! What an expression can use: functions of a version, variables, object types.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Ast, Id};
use crate::check::{self, Declarations};
use crate::cost;
use crate::library::{Functions, Patterns};
use crate::parser::{self, Macros};
use crate::plan;
use crate::program::Program;
use crate::schema::{Field, Fields, Schema};
use crate::selections::{self, Selection};
use crate::source::{Issues, Report, Source};
use crate::types::Type;
use crate::validate;

/// How deep a tree may be. The parser's own limit leaves about 250 levels of what is written, but macros
/// make several of one. Everything walks the tree by recursion, on threads of 2 MiB. Upstream has no such
/// limit, and no use for so many.
const DEEPEST: u32 = 260;

/// A version of Kubernetes: major and minor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// For expressions that are new or changed: so old that the version before can read them
    /// (`DefaultCompatibilityVersion` of 1.37).
    pub const DEFAULT: Self = Self(1, 36);
    /// For expressions that are stored already: whatever any version has allowed.
    pub const STORED: Self = Self(u32::MAX, u32::MAX);
}

/// Declarations that expressions are compiled against. Cheap to clone; `with_*` make a new one.
#[derive(Clone, Debug)]
pub struct Environment {
    version: Version,
    macros: Macros,
    functions: Arc<Functions>,
    variables: BTreeMap<Box<str>, Type>,
    objects: BTreeMap<Arc<str>, Arc<Fields>>,
    /// `Object{...}` and `JSONPatch{...}` can be made.
    patches: bool,
    /// What is estimated by: the schema of the value that every variable is taken for.
    sizes: Option<Arc<Schema>>,
    /// The one variable that this is the schema of, if others are not taken for it.
    sized: Option<Box<str>>,
    /// Names of what is selected may be escaped.
    escaped: bool,
}

impl Environment {
    /// The base environment of a compatibility version: no variables, no object types.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let macros = Macros {
            optional: version >= Version(1, 28),
            two_variables: version >= Version(1, 32),
            sort_by: version >= Version(1, 34),
            bind: false,
        };
        Self {
            version,
            macros,
            functions: Arc::new(Functions::of(version)),
            variables: BTreeMap::new(),
            objects: BTreeMap::new(),
            patches: false,
            sizes: None,
            sized: None,
            escaped: false,
        }
    }

    /// With a variable; its name may have dots (`authorizer.requestResource`).
    #[must_use]
    pub fn with_variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.into(), ty);
        self
    }

    /// With the object types in a schema, whose objects have names (see [`Schema::named`]), and a
    /// variable of its type.
    #[must_use]
    pub fn with_schema(mut self, variable: &str, schema: &Schema) -> Self {
        schema.collect(&mut self.objects);
        self.with_variable(variable, schema.ty().clone())
    }

    /// Adds a field to an object type that the environment has: for types that grow with what was
    /// compiled, as `variables` of admission policies.
    pub fn declare_field(&mut self, object: &str, name: &str, ty: Type) {
        if let Some(fields) = self.objects.get_mut(object) {
            Arc::make_mut(fields).insert(name.into(), Field::new(name, Schema::of(ty)));
        }
    }

    /// With `cel.bind`, which only selectors of devices have.
    #[must_use]
    pub fn with_bindings(mut self) -> Self {
        self.macros.bind = true;
        self
    }

    /// With what mutating policies can make: `Object{...}`, `JSONPatch{...}`, `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_patches(mut self) -> Self {
        let mut functions = Functions::of(self.version);
        functions.add_json_patch();
        self.functions = Arc::new(functions);
        self.patches = true;
        self
    }

    /// Estimates go by the limits in this schema, whatever the variable (upstream estimates rules of
    /// custom resources so). Without it sizes are unknown.
    #[must_use]
    pub fn with_sizes(mut self, schema: &Schema) -> Self {
        self.sizes = Some(Arc::new(schema.clone()));
        self
    }

    /// Estimates go by the limits in this schema of one variable.
    #[must_use]
    pub(crate) fn with_sizes_of(mut self, variable: &str, schema: &Schema) -> Self {
        self.sized = Some(variable.into());
        self.with_sizes(schema)
    }

    /// What is selected by name may have its name escaped also where nothing is known of it, as entries
    /// of maps: `a.b__dot__c` for `a["b.c"]`. So claims of tokens are read (`nativeToValueWithUnescape` of
    /// `apiserver/plugin/pkg/authenticator/token/oidc`).
    #[must_use]
    pub fn with_escaped_names(mut self) -> Self {
        self.escaped = true;
        self
    }

    /// With `includes` of lists, whatever the version.
    #[must_use]
    pub(crate) fn with_includes(mut self) -> Self {
        let mut functions = Functions::of(self.version);
        functions.add_includes();
        self.functions = Arc::new(functions);
        self
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, as upstream's `Issues.String` tells it; or, without a place, that a
    /// constant part of it cannot be evaluated.
    pub fn compile(&self, expression: &str) -> Result<Program, Rejected> {
        let mut patterns = Patterns::default();
        let mut checked = self.checked(expression, &mut patterns)?;
        let estimate = cost::estimate(&checked, self.sizes.as_deref(), self.sized.as_deref());
        if self.escaped {
            selections::unescape(&mut checked);
        }
        plan::plan(&checked, &self.functions, estimate, patterns).map_err(Rejected::Program)
    }

    /// Every field that an expression selects by name, anywhere in it; none of what does not compile.
    #[must_use]
    pub fn selections(&self, expression: &str) -> Vec<Selection> {
        let checked = self.checked(expression, &mut Patterns::default());
        checked.map_or_else(|_| Vec::new(), |checked| selections::of(&checked))
    }

    fn checked(
        &self,
        expression: &str,
        patterns: &mut Patterns,
    ) -> Result<check::Checked, Rejected> {
        let source = Source::new(expression);
        let mut report = Report::new(&source);
        let Some((ast, root)) = parser::parse(&source, self.macros, &mut report) else {
            report.finish()?;
            return Err(Rejected::Program("no expression".into()));
        };
        if ast.depth() > DEEPEST {
            report.nowhere(format!("expression nesting limit exceeded: {DEEPEST}"));
            report.finish()?;
        }
        Ok(self.check(&source, ast, root, patterns)?)
    }

    fn check(
        &self,
        source: &Source,
        ast: Ast,
        root: Id,
        patterns: &mut Patterns,
    ) -> Result<check::Checked, Issues> {
        let mut report = Report::new(source);
        let declarations = Declarations {
            variables: &self.variables,
            objects: &self.objects,
            functions: &self.functions,
            patches: self.patches,
            optionals: self.macros.optional,
            addresses: self.version >= Version(1, 30),
        };
        let checked = check::check(&declarations, ast, root, &mut report);
        report.finish()?;
        let mut report = Report::new(source);
        let everything = self.version >= Version(1, 29);
        validate::validate(&checked, everything, patterns, &mut report);
        report.finish()?;
        Ok(checked)
    }
}

/// Why there is no program for an expression.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Rejected {
    /// The expression is wrong: upstream says "compilation failed: ..." before it.
    #[error(transparent)]
    Issues(#[from] Issues),
    /// A constant part of it cannot be evaluated: upstream says "program instantiation failed: ...".
    #[error("{0}")]
    Program(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::AUTHORIZER;

    #[test]
    fn what_expressions_can_use_came_with_versions() {
        let compiles = |minor, expression: &str| {
            let environment = Environment::new(Version(1, minor));
            let environment = environment.with_variable("authorizer", Type::object(AUTHORIZER));
            environment.compile(expression).is_ok()
        };
        for (came, expressions) in [
            (27, &["authorizer.path('/a').check('get').allowed()"][..]),
            (
                28,
                &[
                    "1 < 2.0",
                    "optional.none().hasValue()",
                    "[?optional.none()]",
                    "optional.of(1).optMap(x, x)",
                    "quantity('1').isInteger()",
                ],
            ),
            (29, &["'%d'.format([1])", "sets.contains([1], [1])"]),
            (30, &["isIP('::1')", "cidr('10.0.0.0/8').prefixLength()"]),
            (
                31,
                &[
                    "format.dns1123Label().validate('a').hasValue()",
                    "authorizer.group('').resource('pods').fieldSelector('a=b').check('get').allowed()",
                ],
            ),
            (
                32,
                &["[1].all(i, v, true)", "{'a': 1}.transformMap(k, v, v)"],
            ),
            (33, &["isSemver('1.2.3')"]),
            (34, &["lists.range(1)", "[1].sortBy(x, x)"]),
            (37, &["[1].includes(1)"]),
        ] {
            for expression in expressions {
                assert!(
                    !compiles(came - 1, expression),
                    "{expression} in 1.{}",
                    came - 1
                );
                assert!(compiles(came, expression), "{expression} in 1.{came}");
            }
        }
        // And what is wrong before it is a program.
        let refused = |minor| {
            Environment::new(Version(1, minor))
                .compile("duration('a')")
                .err()
        };
        assert!(matches!(refused(28), Some(Rejected::Program(_))));
        assert!(matches!(refused(29), Some(Rejected::Issues(_))));
    }
}
