//! Writes for the tests of plugins.

use proto::catalogue::{Resource, resources};
use proto::codec::json::{self, Strictness};
use proto::{MsgId, Value};

use super::{Attributes, Operation, Options, Reinvocation};
use crate::auth::User;

/// An object from JSON.
pub(super) fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

pub(super) fn pod(text: &str) -> Value {
    decode(text, proto::catalogue::messages::core_v1::POD)
}

/// The resource of a name, of the core group if that has it.
pub(super) fn resource(name: &str) -> &'static Resource {
    let named = || resources().iter().filter(|r| r.name == name);
    let core = named().find(|r| r.group.is_empty());
    core.or_else(|| named().next())
        .expect("the test names a resource")
}

/// A write of a resource in version 2, which is the one that is stored, and the same resource in version 1.
pub(super) fn versions() -> (Asked, &'static Resource) {
    let of = |version: &str| {
        let mut all = resources().iter();
        let found = all.find(|r| (r.name, r.version) == ("horizontalpodautoscalers", version));
        found.expect("there are two versions of it")
    };
    let (asked, other) = (of("v2"), of("v1"));
    let object = decode(r#"{"metadata":{"name":"a"},"spec":{}}"#, asked.message);
    let asked = Asked {
        resource: asked,
        ..Asked::create(asked.name, object)
    };
    (asked, other)
}

/// A write that a plugin is asked about.
pub(super) struct Asked {
    pub(super) operation: Operation,
    pub(super) resource: &'static Resource,
    pub(super) subresource: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
    pub(super) user: User,
    pub(super) warnings: Vec<String>,
}

impl Asked {
    fn new(operation: Operation, resource: &str) -> Self {
        Self {
            operation,
            resource: self::resource(resource),
            subresource: "",
            namespace: "ns".to_owned(),
            name: "name".to_owned(),
            object: None,
            old: None,
            user: User::default(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn create(resource: &str, object: Value) -> Self {
        Self {
            object: Some(object),
            ..Self::new(Operation::Create, resource)
        }
    }

    pub(super) fn update(resource: &str, new: Value, old: Value) -> Self {
        Self {
            object: Some(new),
            old: Some(old),
            ..Self::new(Operation::Update, resource)
        }
    }

    pub(super) fn inside(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self
        }
    }

    pub(super) fn by(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user.name);
        self
    }

    /// What a plugin makes of it.
    pub(super) fn ask<T>(&mut self, plugin: impl FnOnce(&mut Attributes<'_>) -> T) -> T {
        let mut write = Attributes {
            operation: self.operation,
            resource: self.resource,
            subresource: self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            object: self.object.as_mut(),
            old: self.old.as_ref(),
            user: &self.user,
            options: Options::None,
            deadline: None,
            reinvocation: Reinvocation::default(),
            warnings: &mut self.warnings,
            trail: None,
        };
        plugin(&mut write)
    }
}
