//! Policies and their bindings, compiled from their objects.

use cel::Version;
use cel::admission::{Compiler, Use};
use proto::catalogue::names as n;
use proto::selector::LabelSelector;
use proto::view::admissionregistration_v1::{
    MutatingAdmissionPolicy, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::State;
use super::expression::{Conditions, Expression};
use super::matching::Matching;
use super::scope::Variables;
use crate::server::Server;

/// What the two kinds of policies do not share.
pub(in super::super) trait Body: Sized + Send + Sync + 'static {
    /// The resources.
    const POLICIES: &'static str;
    const BINDINGS: &'static str;

    fn compile(policy: &Value, compiler: &mut Compiler) -> Self;

    /// What the plugin of these policies knows, if it runs.
    fn state(server: &Server) -> Option<&State<Self>>;
}

pub(super) struct Policy<B> {
    pub(super) name: String,
    /// What is done if it cannot be said what the policy wants: nothing, or the write is refused.
    pub(super) ignores_failures: bool,
    pub(super) constraints: Option<Matching>,
    pub(super) param_kind: Option<ParamKind>,
    pub(super) variables: Variables,
    pub(super) conditions: Conditions,
    pub(super) body: B,
}

/// Of what kind the parameters are.
pub(super) struct ParamKind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

impl<B: Body> Policy<B> {
    pub(super) fn compile(object: &Value) -> Self {
        // Both kinds have one shape, but for what only one of them has.
        let spec = ValidatingAdmissionPolicy::of(Node::new(object)).spec();
        let param_kind = spec.param_kind().map(|kind| ParamKind {
            api_version: kind.api_version().to_owned(),
            kind: kind.kind().to_owned(),
        });
        let mut compiler = Compiler::composing(param_kind.is_some());
        let mut variables = Variables::default();
        for variable in spec.variables() {
            let (name, text) = (variable.name(), variable.expression());
            variables.push(name, compiler.declare(name, text, Version::STORED));
        }
        Self {
            name: meta::name(object).to_owned(),
            ignores_failures: spec.failure_policy() == Some("Ignore"),
            constraints: spec.match_constraints().map(Matching::read),
            param_kind,
            variables,
            conditions: Conditions::compile(&mut compiler, spec.match_conditions()),
            body: B::compile(object, &mut compiler),
        }
    }
}

/// What a validating policy wants to hold, and what it notes.
pub(in super::super) struct Validating {
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
}

pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Reason,
}

pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) value: Expression,
}

/// As what a write is refused.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Reason {
    Unauthorized,
    Forbidden,
    #[default]
    Invalid,
    RequestEntityTooLarge,
}

impl Reason {
    fn parse(text: &str) -> Self {
        match text {
            "Unauthorized" => Self::Unauthorized,
            "Forbidden" => Self::Forbidden,
            "RequestEntityTooLarge" => Self::RequestEntityTooLarge,
            _ => Self::Invalid,
        }
    }

    /// Code and reason of the status.
    pub(super) fn status(self) -> (u16, &'static str) {
        match self {
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden => (403, "Forbidden"),
            Self::Invalid => (422, "Invalid"),
            Self::RequestEntityTooLarge => (413, "RequestEntityTooLarge"),
        }
    }
}

impl Body for Validating {
    const POLICIES: &'static str = "validatingadmissionpolicies";
    const BINDINGS: &'static str = "validatingadmissionpolicybindings";

    fn compile(policy: &Value, compiler: &mut Compiler) -> Self {
        let spec = ValidatingAdmissionPolicy::of(Node::new(policy)).spec();
        let validations = spec.validations().into_iter().map(|of| {
            let message = Some(of.message_expression()).filter(|text| !text.is_empty());
            let compiled = message.map(|text| Expression::compile(compiler, text, Use::Message));
            Validation {
                expression: Expression::compile(compiler, of.expression(), Use::Condition),
                message: of.message().to_owned(),
                message_expression: compiled,
                reason: of.reason().map(Reason::parse).unwrap_or_default(),
            }
        });
        let validations = validations.collect();
        let annotations = spec.audit_annotations().into_iter().map(|of| Annotation {
            key: of.key().to_owned(),
            value: Expression::compile(compiler, of.value_expression(), Use::AuditAnnotation),
        });
        Self {
            validations,
            annotations: annotations.collect(),
        }
    }

    fn state(server: &Server) -> Option<&State<Self>> {
        server.admission.state.validating_policies.as_ref()
    }
}

/// What a mutating policy changes.
pub(in super::super) struct Mutating {
    pub(super) mutations: Vec<Mutation>,
    /// Whether it is asked again if the object changes after it was.
    pub(super) reinvoked: bool,
}

pub(super) enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

impl Body for Mutating {
    const POLICIES: &'static str = "mutatingadmissionpolicies";
    const BINDINGS: &'static str = "mutatingadmissionpolicybindings";

    fn compile(policy: &Value, compiler: &mut Compiler) -> Self {
        let spec = MutatingAdmissionPolicy::of(Node::new(policy)).spec();
        let mutations = spec.mutations().into_iter().filter_map(|of| {
            if of.patch_type() == "JSONPatch" {
                let text = of.json_patch()?.expression();
                let patch = Expression::compile(compiler, text, Use::JsonPatch);
                return Some(Mutation::Patch(patch));
            }
            let text = of.apply_configuration()?.expression();
            let applied = Expression::compile(compiler, text, Use::ApplyConfiguration);
            Some(Mutation::Apply(applied))
        });
        Self {
            mutations: mutations.collect(),
            reinvoked: spec.reinvocation_policy() == "IfNeeded",
        }
    }

    fn state(server: &Server) -> Option<&State<Self>> {
        server.admission.state.mutating_policies.as_ref()
    }
}

/// A binding of a policy.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// None: everything that the policy is about.
    pub(super) resources: Option<Matching>,
    pub(super) param: Option<ParamRef>,
    /// In their order.
    pub(super) actions: Vec<Action>,
}

/// What follows from a validation that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

impl Action {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

/// Which objects are the parameters.
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Result<LabelSelector, String>>,
    /// Whether a write is refused if there are none.
    pub(super) denies_absence: bool,
}

impl Binding {
    pub(super) fn compile(object: &Value) -> Self {
        // Both kinds have one shape, but for the actions.
        let spec = ValidatingAdmissionPolicyBinding::of(Node::new(object)).spec();
        let actions = spec.validation_actions().iter().filter_map(Value::as_str);
        let actions = actions.filter_map(|action| match action {
            "Deny" => Some(Action::Deny),
            "Warn" => Some(Action::Warn),
            "Audit" => Some(Action::Audit),
            _ => None,
        });
        Self {
            name: meta::name(object).to_owned(),
            policy: spec.policy_name().to_owned(),
            resources: spec.match_resources().map(Matching::read),
            param: spec.param_ref().map(|param| ParamRef {
                name: param.name().to_owned(),
                namespace: param.namespace().to_owned(),
                selector: param.node().get(n::SELECTOR).map(|selector| {
                    LabelSelector::from_object(selector).map_err(|e| e.to_string())
                }),
                denies_absence: param.parameter_not_found_action() == Some("Deny"),
            }),
            actions: actions.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::MUTATING_ADMISSION_POLICY;

    use super::super::super::testing::decode;
    use super::*;

    #[test]
    fn mutations_are_told_as_they_are_written() {
        let (apply, patch) = (" Object{} ", " [JSONPatch{op: 'test'}] ");
        let text = format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"mutations":[{{"patchType":"ApplyConfiguration","applyConfiguration":{{"expression":"{apply}"}}}},{{"patchType":"JSONPatch","jsonPatch":{{"expression":"{patch}"}}}}]}}}}"#
        );
        let policy = Policy::<Mutating>::compile(&decode(&text, MUTATING_ADMISSION_POLICY));
        let told = policy.body.mutations.iter().map(|mutation| {
            let (Mutation::Apply(of) | Mutation::Patch(of)) = mutation;
            assert!(of.program.is_ok(), "{}", of.text);
            &*of.text
        });
        assert_eq!(told.collect::<Vec<_>>(), [apply, patch]);
    }
}
