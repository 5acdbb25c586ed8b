//! What expressions of admission can use and what they have to give: match conditions of webhooks and
//! policies, and everything else in policies (`apiserver/pkg/admission/plugin/cel`).
//!
//! A [`Compiler`] is made for each policy: what its variables are is known to the expressions behind
//! them. [`Compiler::for_types`] checks expressions against the types of objects instead
//! (`policy/validating/typechecking.go`), where the others take objects for what they turn out to be.

use std::fmt;
use std::sync::LazyLock;

use crate::environment::{Environment, Rejected, Version};
use crate::program::Program;
use crate::schema::Schema;
use crate::types::Type;
use crate::value::{AUTHORIZER, RESOURCE_CHECK};

/// The type of `variables`.
pub const VARIABLES: &str = "kubernetes.variables";

/// What an expression is for. That decides what it can use and what it has to give.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Use {
    /// A match condition, or a validation: whether.
    Condition,
    /// What is said of a validation that fails. It cannot ask the authorizer.
    Message,
    /// The value of an annotation of the audit event, if it has one.
    AuditAnnotation,
    Variable,
    ApplyConfiguration,
    JsonPatch,
}

impl Use {
    /// One of them is what it has to give; none: whatever it likes.
    fn gives(self) -> Vec<Type> {
        match self {
            Self::Condition => vec![Type::Bool],
            Self::Message => vec![Type::String],
            Self::AuditAnnotation => vec![Type::String, Type::Null],
            Self::Variable => Vec::new(),
            Self::ApplyConfiguration => vec![Type::object("Object")],
            Self::JsonPatch => vec![Type::list(Type::object("JSONPatch"))],
        }
    }

    fn scope(self) -> Scope {
        match self {
            Self::Message => Scope::Silent,
            Self::ApplyConfiguration | Self::JsonPatch => Scope::Patches,
            _ => Scope::Asking,
        }
    }
}

/// What can be used besides what all expressions can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Silent,
    /// The authorizer.
    Asking,
    /// The authorizer, and what changes are made of.
    Patches,
}

/// Why an expression is refused, in upstream's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    pub detail: String,
    /// It is not the expression's own fault as upstream sees it.
    pub internal: bool,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<Rejected> for Invalid {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Issues(issues) => Self {
                detail: format!("compilation failed: {issues}"),
                internal: false,
            },
            Rejected::Program(why) => Self {
                detail: format!("program instantiation failed: {why}"),
                internal: true,
            },
        }
    }
}

/// Compiles the expressions of one policy, or of one webhook.
#[derive(Debug)]
pub struct Compiler {
    from: Basis,
    /// None: there is not even `variables`.
    variables: Option<Vec<(Box<str>, Type)>>,
    made: Vec<Made>,
}

#[derive(Debug)]
enum Basis {
    /// Whether there are `params`.
    Objects { params: bool },
    /// The types of objects are known.
    Types(Environment),
}

/// An environment, with the first variables in it.
#[derive(Debug)]
struct Made {
    version: Version,
    scope: Scope,
    environment: Environment,
    known: usize,
}

impl Compiler {
    /// For expressions that have no variables of their own.
    #[must_use]
    pub fn plain(params: bool) -> Self {
        Self {
            from: Basis::Objects { params },
            variables: None,
            made: Vec::new(),
        }
    }

    /// For expressions that read `variables`, which are then declared in their order.
    #[must_use]
    pub fn composing(params: bool) -> Self {
        Self {
            variables: Some(Vec::new()),
            ..Self::plain(params)
        }
    }

    /// For checks alone: what `object`, `oldObject` and `params` are is known. No schema of them:
    /// anything. None at all: there are no `params`.
    #[must_use]
    pub fn for_types(object: Option<&Schema>, params: Option<Option<&Schema>>) -> Self {
        let with = |environment: Environment, name: &str, schema: Option<&Schema>| match schema {
            Some(schema) => environment.with_schema(name, schema),
            None => environment.with_variable(name, Type::Dyn),
        };
        let mut all = Environment::new(Version::STORED)
            .with_schema("namespaceObject", &namespace())
            .with_schema("request", &request())
            .with_variable("authorizer", Type::object(AUTHORIZER));
        all = with(all, "object", object);
        all = with(all, "oldObject", object);
        if let Some(params) = params {
            all = with(all, "params", params);
        }
        Self {
            from: Basis::Types(all),
            variables: Some(Vec::new()),
            made: Vec::new(),
        }
    }

    /// Compiles an expression that gives the value of a variable. The variable is declared even if that
    /// fails: then nothing is known of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn declare(
        &mut self,
        name: &str,
        expression: &str,
        version: Version,
    ) -> Result<Program, Invalid> {
        let program = self.compile(expression, Use::Variable, version);
        let ty = program
            .as_ref()
            .map_or(Type::Dyn, |p| known(p.result_type()));
        if let Some(variables) = &mut self.variables {
            variables.push((name.into(), ty));
        }
        program
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(
        &mut self,
        expression: &str,
        of: Use,
        version: Version,
    ) -> Result<Program, Invalid> {
        let environment = self.environment(of.scope(), version);
        let program = environment.compile(expression)?;
        let (gives, got) = (of.gives(), program.result_type());
        if gives.is_empty() || gives.contains(got) {
            return Ok(program);
        }
        let wanted: Vec<String> = gives.iter().map(ToString::to_string).collect();
        let wanted = match wanted.as_slice() {
            [one] => one.clone(),
            many => format!("one of [{}]", many.join(" ")),
        };
        Err(Invalid {
            detail: format!("must evaluate to {wanted} but got {got}"),
            internal: false,
        })
    }

    /// Checks an expression, whatever it gives; what is wrong with it, as upstream's `Issues.String`
    /// tells it.
    #[must_use]
    pub fn check(&mut self, expression: &str) -> Option<String> {
        let environment = self.environment(Scope::Asking, Version::STORED);
        match environment.compile(expression) {
            Err(Rejected::Issues(issues)) => Some(issues.to_string()),
            // Nobody runs it.
            Ok(_) | Err(Rejected::Program(_)) => None,
        }
    }

    fn environment(&mut self, scope: Scope, version: Version) -> &Environment {
        let found = self
            .made
            .iter()
            .position(|m| (m.version, m.scope) == (version, scope));
        let index = found.unwrap_or_else(|| {
            let mut environment = match &self.from {
                Basis::Objects { params } => base(scope, version, *params),
                Basis::Types(environment) => environment.clone(),
            };
            if self.variables.is_some() {
                environment = environment.with_schema("variables", &Schema::object(VARIABLES, []));
            }
            self.made.push(Made {
                version,
                scope,
                environment,
                known: 0,
            });
            self.made.len() - 1
        });
        let made = &mut self.made[index];
        for (name, ty) in self.variables.iter().flatten().skip(made.known) {
            made.environment.declare_field(VARIABLES, name, ty.clone());
            made.known += 1;
        }
        &made.environment
    }
}

/// What is known of a variable: of types that other expressions could not name, nothing.
fn known(ty: &Type) -> Type {
    match ty {
        Type::Any
        | Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => ty.clone(),
        Type::List(of) => Type::list(known(of)),
        Type::Map(of) => Type::map(known(&of.0), known(&of.1)),
        _ => Type::Dyn,
    }
}

fn base(scope: Scope, version: Version, params: bool) -> Environment {
    static KNOWN: LazyLock<[[Environment; 3]; 2]> = LazyLock::new(|| {
        [Version::DEFAULT, Version::STORED].map(|version| {
            [Scope::Silent, Scope::Asking, Scope::Patches].map(|scope| variables(scope, version))
        })
    });
    let environment = match version {
        Version::DEFAULT => KNOWN[0][scope as usize].clone(),
        Version::STORED => KNOWN[1][scope as usize].clone(),
        other => variables(scope, other),
    };
    if params {
        environment.with_variable("params", Type::Dyn)
    } else {
        environment
    }
}

fn variables(scope: Scope, version: Version) -> Environment {
    let mut environment = Environment::new(version)
        .with_variable("object", Type::Dyn)
        .with_variable("oldObject", Type::Dyn)
        .with_schema("namespaceObject", &namespace())
        .with_schema("request", &request());
    if scope != Scope::Silent {
        environment = environment
            .with_variable("authorizer", Type::object(AUTHORIZER))
            .with_variable("authorizer.requestResource", Type::object(RESOURCE_CHECK));
    }
    if scope == Scope::Patches {
        environment = environment.with_patches();
    }
    environment
}

/// `request`: an `AdmissionRequest` without its objects (`BuildRequestType`).
fn request() -> Schema {
    let text = || Schema::of(Type::String);
    let texts = || Schema::list(text());
    let kind = || {
        let fields = [("group", text()), ("version", text()), ("kind", text())];
        Schema::object("kubernetes.GroupVersionKind", fields)
    };
    let resource = || {
        let fields = [("group", text()), ("version", text()), ("resource", text())];
        Schema::object("kubernetes.GroupVersionResource", fields)
    };
    let user = Schema::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", texts()),
            ("extra", Schema::map(texts())),
        ],
    );
    Schema::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Schema::of(Type::Bool)),
            ("options", Schema::of(Type::Dyn)),
        ],
    )
}

/// `namespaceObject` (`BuildNamespaceType`; the uid is misspelt there, so that nobody can read it).
fn namespace() -> Schema {
    let text = || Schema::of(Type::String);
    let texts = || Schema::list(text());
    let time = || Schema::of(Type::Timestamp);
    let number = || Schema::of(Type::Int);
    let condition = Schema::object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = Schema::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Schema::map(text())),
            ("annotations", Schema::map(text())),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let spec = Schema::object("kubernetes.NamespaceSpec", [("finalizers", texts())]);
    let status = Schema::object(
        "kubernetes.NamespaceStatus",
        [("conditions", Schema::list(condition)), ("phase", text())],
    );
    Schema::object(
        "kubernetes.Namespace",
        [("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(compiler: &mut Compiler, expression: &str, of: Use) -> String {
        let invalid = compiler
            .compile(expression, of, Version::DEFAULT)
            .unwrap_err();
        assert!(!invalid.internal, "{expression}");
        invalid.detail
    }

    #[test]
    fn an_expression_has_to_give_what_it_is_for() {
        let mut plain = Compiler::plain(false);
        for (expression, of, told) in [
            ("1", Use::Condition, "must evaluate to bool but got int"),
            (
                "object.a",
                Use::Condition,
                "must evaluate to bool but got dyn",
            ),
            ("true", Use::Message, "must evaluate to string but got bool"),
            (
                "1",
                Use::AuditAnnotation,
                "must evaluate to one of [string null_type] but got int",
            ),
            (
                "Object.spec{}",
                Use::ApplyConfiguration,
                "must evaluate to Object but got Object.spec",
            ),
            (
                "[Object{}]",
                Use::JsonPatch,
                "must evaluate to list(JSONPatch) but got list(Object)",
            ),
        ] {
            assert_eq!(refused(&mut plain, expression, of), told, "{expression}");
        }
        let mut gives = |expression, of| {
            let compiled = plain.compile(expression, of, Version::DEFAULT);
            compiled.map_err(|e| e.detail).unwrap();
        };
        gives("null", Use::AuditAnnotation);
        gives("Object{spec: Object.spec{}}", Use::ApplyConfiguration);
        gives(r#"[JSONPatch{op: "remove", path: "/a"}]"#, Use::JsonPatch);
        gives(
            "request.userInfo.groups.exists(g, g == 'a')",
            Use::Condition,
        );
        gives(
            "namespaceObject.metadata.labels['a'] == 'b'",
            Use::Condition,
        );
        gives(
            "authorizer.requestResource.check('get').allowed()",
            Use::Condition,
        );
    }

    #[test]
    fn what_is_not_there_cannot_be_used() {
        let mut plain = Compiler::plain(false);
        for (expression, of, name) in [
            ("params == null", Use::Condition, "params"),
            ("variables.a", Use::Condition, "variables"),
            (
                "string(authorizer.group('').resource('a').check('get').allowed())",
                Use::Message,
                "authorizer",
            ),
        ] {
            let told = refused(&mut plain, expression, of);
            let wanted = format!("undeclared reference to '{name}'");
            assert!(told.contains(&wanted), "{told}");
        }
        let told = refused(&mut plain, "Object{} == object", Use::Condition);
        assert!(
            told.starts_with(
                "compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object'"
            ),
            "{told}"
        );
        let mut with = Compiler::plain(true);
        with.compile("params == null", Use::Condition, Version::DEFAULT)
            .unwrap();
    }

    #[test]
    fn a_variable_is_known_by_its_type_to_what_stands_behind_it() {
        let mut policy = Compiler::composing(false);
        let declare = |policy: &mut Compiler, name, expression| {
            let declared = policy.declare(name, expression, Version::DEFAULT);
            declared.map_err(|e| e.detail)
        };
        assert!(
            declare(&mut policy, "early", "variables.count > 1")
                .unwrap_err()
                .contains("undefined field 'count'")
        );
        declare(&mut policy, "count", "size(object.items)").unwrap();
        declare(&mut policy, "more", "variables.count + 1").unwrap();
        declare(&mut policy, "map", "{'a': [1]}").unwrap();
        assert_eq!(
            refused(&mut policy, "variables.more", Use::Condition),
            "must evaluate to bool but got int"
        );
        assert_eq!(
            refused(&mut policy, "variables.map", Use::Message),
            "must evaluate to string but got map(string, list(int))"
        );
        // Of a type that no other expression can name nothing is known.
        declare(&mut policy, "amount", "quantity('1')").unwrap();
        policy
            .compile("variables.amount == 1", Use::Condition, Version::STORED)
            .unwrap();
        // What did not compile may be anything.
        policy
            .compile("variables.early == 1", Use::Condition, Version::STORED)
            .unwrap();
    }

    #[test]
    fn types_of_objects_are_checked() {
        let text = || Schema::of(Type::String);
        let object = Schema::object("Thing1", [("name", text())]);
        let mut typed = Compiler::for_types(Some(&object), Some(None));
        assert_eq!(
            typed.check("object.name == oldObject.name && params.a == 1"),
            None
        );
        let told = typed.check("object.nam == 'a'").unwrap();
        assert!(
            told.starts_with("ERROR: <input>:1:7: undefined field 'nam'"),
            "{told}"
        );
        let mut open = Compiler::for_types(None, None);
        assert_eq!(open.check("object.anything"), None);
        assert!(open.check("params.a").is_some());
    }
}
