//! The environments that expressions are asked in: `environments.json`.

use std::collections::BTreeMap;

use cel::{
    Activation, Authorizer, Check, Decision, Environment, Outcome, Root, Schema, Type, Version,
};
use proto::Value;

const DESCRIPTIONS: &[u8] = include_bytes!("environments.json");

pub(crate) struct Environments(BTreeMap<String, Described>);

/// Declarations, and values for them.
pub(crate) struct Described {
    pub(crate) environment: Environment,
    /// Of a rule's variables.
    schema: Option<Schema>,
    values: Value,
}

impl Environments {
    pub(crate) fn load() -> Self {
        let all = proto::codec::json::parse(DESCRIPTIONS).expect("the file is JSON");
        let all = all.as_map().expect("the file is an object");
        Self(
            all.iter()
                .map(|(name, description)| (name.to_string(), describe(description)))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> &Described {
        self.0.get(name).expect("the file has the environment")
    }
}

fn describe(description: &Value) -> Described {
    let version = match description.get("version").and_then(Value::as_str) {
        Some("stored") | None => Version::STORED,
        Some(text) => {
            let (major, minor) = text.split_once('.').expect("a version has two parts");
            let number = |text: &str| text.parse().expect("a version has numbers");
            Version(number(major), number(minor))
        }
    };
    let environment = Environment::new(version);
    if let Some(schema) = description.get("schema") {
        let schema = Schema::from_openapi(schema, Root::Resource).expect("an object's schema");
        let schema = schema.named("selfType");
        return Described {
            environment: environment
                .with_schema("self", &schema)
                .with_variable("oldSelf", schema.ty().clone())
                .with_sizes(&schema),
            schema: Some(schema),
            values: description.clone(),
        };
    }
    let environment = if let Some(policy) = description.get("policy") {
        return Described {
            environment: of_policies(environment),
            schema: None,
            values: policy.clone(),
        };
    } else if description.get("bindings").is_some() {
        environment.with_bindings()
    } else {
        environment
    };
    Described {
        environment,
        schema: None,
        values: Value::Null,
    }
}

fn of_policies(environment: Environment) -> Environment {
    let text = || Schema::of(Type::String);
    let texts = || Schema::list(text());
    let three = |name: &str, last| {
        Schema::object(
            name,
            [("group", text()), ("version", text()), (last, text())],
        )
    };
    let kind = || three("kubernetes.GroupVersionKind", "kind");
    let resource = || three("kubernetes.GroupVersionResource", "resource");
    let user = Schema::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", texts()),
            ("extra", Schema::map(texts())),
        ],
    );
    let request = Schema::object(
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
    );
    let labels = || Schema::map(text());
    let metadata = Schema::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("labels", labels()),
            ("annotations", labels()),
            ("creationTimestamp", Schema::of(Type::Timestamp)),
        ],
    );
    let status = Schema::object("kubernetes.NamespaceStatus", [("phase", text())]);
    let namespace = Schema::object(
        "kubernetes.Namespace",
        [("metadata", metadata), ("status", status)],
    );
    let mut all = environment
        .with_schema("request", &request)
        .with_schema("namespaceObject", &namespace)
        .with_variable(
            "authorizer",
            Type::object("kubernetes.authorization.Authorizer"),
        )
        .with_variable(
            "authorizer.requestResource",
            Type::object("kubernetes.authorization.ResourceCheck"),
        );
    for name in ["object", "oldObject", "params"] {
        all = all.with_variable(name, Type::Dyn);
    }
    all.with_patches()
}

impl Activation for Described {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        match name {
            "authorizer" => return Some(Ok(cel::Value::authorizer(&AllowGets))),
            "authorizer.requestResource" => {
                let check = Check {
                    resource: "pods".into(),
                    namespace: "default".into(),
                    name: "a".into(),
                    ..Check::default()
                };
                return Some(Ok(cel::Value::resource_check(&AllowGets, check)));
            }
            _ => {}
        }
        let value = self.values.get(name)?;
        Some(match &self.schema {
            Some(schema) => cel::Value::typed(value, schema),
            None => Ok(cel::Value::of(value)),
        })
    }
}

/// As the one in `hack/go/kubernetes/cel/authorizer.go`.
struct AllowGets;

impl Authorizer for AllowGets {
    fn authorize(&self, check: &Check) -> Option<Decision> {
        Some(if &*check.name == "broken" {
            Decision {
                error: Some("it is broken".into()),
                ..Decision::default()
            }
        } else if &*check.verb == "get" {
            Decision {
                allowed: true,
                reason: "gets are allowed".into(),
                error: None,
            }
        } else {
            Decision {
                reason: "only gets are allowed".into(),
                ..Decision::default()
            }
        })
    }
}
