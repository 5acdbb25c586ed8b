//! The objects of a write in the versions in which webhooks see them.
//!
//! A write has its objects in the version in which they are stored. What was made of them for one webhook serves all that see
//! the same kind, until one of them changes the object.

use std::sync::Arc;

use bytes::Bytes;
use component::features::Features;
use proto::catalogue::{Gates, Resource};
use proto::patch::json::Patch;
use proto::{MsgId, Value, codec};
use resources::object::{self, Type};
use resources::status::Failure;
use resources::{Strategy, defaults, equal, strategies};

use super::super::Attributes;
use super::super::given::Given;
use super::review::Objects;
use super::source::{Matched, kind};
use crate::handler::patch::keep_raw;
use crate::render::with_type;

pub(in super::super) struct Forms {
    /// The kind in which the write has its objects.
    own: Type,
    strategy: &'static Strategy,
    gates: Gates,
    objects: Vec<(Type, Bytes)>,
    olds: Vec<(Type, Bytes)>,
    options: Option<Bytes>,
    /// What match conditions are given, by the kind in which they see the objects.
    given: Vec<(Type, Arc<Given>)>,
}

/// An object with a patch.
pub(in super::super) struct Patched {
    /// In the version in which the write has it.
    pub(in super::super) object: Value,
    /// Whether that changed it, defaults apart.
    pub(in super::super) changed: bool,
}

impl Forms {
    pub(in super::super) fn new(
        resource: &'static Resource,
        subresource: &str,
        features: &Features,
    ) -> Self {
        let seen = kind(resource, subresource);
        let stored = object::types(resource, features.version().min_compatibility);
        let stored = stored.filter(|_| seen.message == resource.message);
        let (own, strategy) = match stored {
            Some((_, hub)) => (hub, strategies::of(resource)),
            None => (seen, &PLAIN),
        };
        Self {
            own,
            strategy,
            gates: features.gates(),
            objects: Vec::new(),
            olds: Vec::new(),
            options: None,
            given: Vec::new(),
        }
    }

    /// What the objects of the write are, as it has them.
    pub(in super::super) fn message(&self) -> MsgId {
        self.own.message
    }

    /// The object was changed.
    pub(in super::super) fn changed(&mut self) {
        self.objects.clear();
        self.given.clear();
    }

    /// What match conditions are given: objects of a kind, but they are told of the resource as it was asked for
    /// (`matchconditions/matcher.go`).
    pub(in super::super) fn given(
        &mut self,
        write: &Attributes<'_>,
        as_kind: &Type,
    ) -> Result<Arc<Given>, Failure> {
        if let Some((_, given)) = self.given.iter().find(|(of, _)| of == as_kind) {
            return Ok(Arc::clone(given));
        }
        let objects = self.all(write, as_kind)?;
        let told = Matched {
            resource: write.resource,
            kind: as_kind,
        };
        let given = Arc::new(Given::new(told, write, &objects)?);
        self.given.push((*as_kind, Arc::clone(&given)));
        Ok(given)
    }

    /// All that a webhook is shown.
    pub(in super::super) fn all(
        &mut self,
        write: &Attributes<'_>,
        as_kind: &Type,
    ) -> Result<Objects, Failure> {
        let (own, strategy) = (self.own, self.strategy);
        let form = |known: &mut Vec<(Type, Bytes)>, object: Option<&Value>| {
            let Some(object) = object else {
                return Ok(None);
            };
            if let Some((_, json)) = known.iter().find(|(of, _)| of == as_kind) {
                return Ok(Some(json.clone()));
            }
            let json = json(&shown(object, &own, strategy, as_kind)?, as_kind);
            known.push((*as_kind, json.clone()));
            Ok::<_, Failure>(Some(json))
        };
        let objects = form(&mut self.objects, write.object.as_deref())?;
        let old = form(&mut self.olds, write.old)?;
        if self.options.is_none() {
            self.options = write.options.to_json().map(Bytes::from);
        }
        Ok(Objects {
            object: objects,
            old,
            options: self.options.clone(),
        })
    }

    /// The object as a webhook sees it, with its patch.
    ///
    /// # Errors
    /// The patch cannot be applied, or what comes of it is no such object: a text.
    pub(super) fn patched(
        &self,
        object: &Value,
        as_kind: &Type,
        json: &[u8],
        patch: &Patch,
    ) -> Result<Patched, String> {
        let mut document = codec::json::parse(json).map_err(|e| e.to_string())?;
        patch.apply(&mut document).map_err(|e| e.to_string())?;
        self.completed(object, as_kind, &document, Unknown::Dropped)
    }

    /// What JSON of a kind makes of the object, with its defaults.
    ///
    /// # Errors
    /// It is no such object: a text.
    pub(in super::super) fn completed(
        &self,
        object: &Value,
        as_kind: &Type,
        document: &Value,
        unknown: Unknown,
    ) -> Result<Patched, String> {
        let text = |failure: Failure| failure.message().to_owned();
        let mut bytes = Vec::with_capacity(2048);
        codec::json::write(document, &mut bytes);
        let decoded = object::decode_patched(&bytes, as_kind)?;
        if unknown == Unknown::Refused && !decoded.problems.is_empty() {
            let problems = decoded.problems.join(", ");
            return Err(format!("strict decoding error: {problems}"));
        }
        let mut new = decoded.object;
        let before = shown(object, &self.own, self.strategy, as_kind).map_err(text)?;
        keep_raw(&mut new, &before, as_kind.message);
        let changed = !equal::alike(Some(&before), Some(&new), as_kind.message);
        let object =
            defaults::complete(self.gates, self.strategy, as_kind, &self.own, new).map_err(text)?;
        Ok(Patched { object, changed })
    }
}

/// What becomes of fields that nobody knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unknown {
    Dropped,
    Refused,
}

/// For bodies that are not stored.
static PLAIN: Strategy = Strategy::DEFAULT;

/// An object in another version, with what it has in every form but the stored one.
fn shown(
    object: &Value,
    own: &Type,
    strategy: &Strategy,
    as_kind: &Type,
) -> Result<Value, Failure> {
    let mut object = object.clone();
    if let Some(complete) = strategy.complete {
        complete(&mut object);
    }
    object::convert(object, own, as_kind)
}

/// An object as the tree of its JSON in another version.
pub(in super::super) fn tree(
    object: &Value,
    own: &Type,
    strategy: &Strategy,
    as_kind: &Type,
) -> Result<Value, Failure> {
    let json = json(&shown(object, own, strategy, as_kind)?, as_kind);
    codec::json::parse(&json).map_err(Failure::internal)
}

fn json(object: &Value, of: &Type) -> Bytes {
    let mut body = Vec::with_capacity(2048);
    codec::json::encode(object, of.message, &mut body);
    let mut out = Vec::with_capacity(body.len() + 64);
    with_type(of.kind, &of.api_version(), &body, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use proto::catalogue::names as n;
    use serde_json::json;

    use super::super::super::testing::{Asked, pod, resource, versions};
    use super::*;

    fn patch(operations: &serde_json::Value) -> Patch {
        let document = codec::json::parse(operations.to_string().as_bytes()).unwrap();
        Patch::read(&document).unwrap()
    }

    fn patched(object: &Value, operations: &serde_json::Value) -> Result<Patched, String> {
        let mut asked = Asked::create("pods", object.clone());
        let of = kind(resource("pods"), "");
        let mut forms = Forms::new(resource("pods"), "", &Features::defaults());
        let all = asked.ask(|write| forms.all(write, &of).unwrap());
        forms.patched(object, &of, &all.object.unwrap(), &patch(operations))
    }

    #[test]
    fn defaults_are_applied_after_a_patch() {
        let object = pod(r#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#);
        let add = json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "x", "resources": {}}]}]);
        let Patched { object, changed } = patched(&object, &add).unwrap();
        assert!(changed);
        let container = &object
            .at(&[n::SPEC, n::INIT_CONTAINERS])
            .unwrap()
            .as_list()
            .unwrap()[0];
        let policy = container
            .get(n::TERMINATION_MESSAGE_POLICY)
            .and_then(Value::as_str);
        assert_eq!(policy, Some("File"));
    }

    #[test]
    fn a_patch_that_says_what_is_there_changes_nothing() {
        let object = pod(r#"{"metadata":{"name":"a","labels":{"k":"v"}}}"#);
        let same = json!([{"op": "add", "path": "/metadata/labels/k", "value": "v"}]);
        assert!(!patched(&object, &same).unwrap().changed);
        let empty = json!([{"op": "add", "path": "/metadata/annotations", "value": {}}]);
        assert!(
            !patched(&object, &empty).unwrap().changed,
            "an empty map is none"
        );
        let other = json!([{"op": "replace", "path": "/metadata/labels/k", "value": "w"}]);
        assert!(patched(&object, &other).unwrap().changed);
    }

    #[test]
    fn what_comes_of_a_patch_is_an_object_of_the_kind() {
        let object = pod(r#"{"metadata":{"name":"a"}}"#);
        for wrong in [
            json!([{"op": "remove", "path": "/spec/nothing"}]),
            json!([{"op": "replace", "path": "/spec", "value": "x"}]),
            json!([{"op": "replace", "path": "/kind", "value": "Node"}]),
            json!([{"op": "test", "path": "/metadata/name", "value": "b"}]),
        ] {
            assert!(patched(&object, &wrong).is_err(), "{wrong}");
        }
        let unknown = json!([{"op": "add", "path": "/spec/unknown", "value": 1}]);
        assert!(
            !patched(&object, &unknown).unwrap().changed,
            "unknown fields are dropped"
        );
    }

    #[test]
    fn objects_are_compared_as_what_they_are_stored_as() {
        use proto::catalogue::messages::{autoscaling_v1, autoscaling_v2, policy_v1};

        let scaler = |version| {
            proto::catalogue::resource("autoscaling", version, "horizontalpodautoscalers").unwrap()
        };
        let asked_for = scaler("v1");
        assert_eq!(asked_for.message, autoscaling_v1::HORIZONTAL_POD_AUTOSCALER);
        let stored = scaler("v2");
        let message = |of, below| Forms::new(of, below, &Features::defaults()).message();
        for (of, below) in [(asked_for, ""), (asked_for, "status"), (stored, "")] {
            assert_eq!(
                message(of, below),
                autoscaling_v2::HORIZONTAL_POD_AUTOSCALER
            );
        }
        assert_eq!(message(resource("pods"), "eviction"), policy_v1::EVICTION);
    }

    #[test]
    fn conditions_see_the_version_of_the_rule_and_are_told_of_the_one_that_was_asked_for() {
        let (mut asked, other) = versions();
        let mut forms = Forms::new(asked.resource, "", &Features::defaults());
        asked.ask(|write| {
            let seen = kind(other, "");
            let given = forms.given(write, &seen).unwrap();
            assert_eq!(given.versions(), ["v2", "v1", "v2", "autoscaling/v1"]);
            let again = forms.given(write, &seen).unwrap();
            assert!(Arc::ptr_eq(&given, &again), "it is made once");
            forms.changed();
            assert!(!Arc::ptr_eq(&given, &forms.given(write, &seen).unwrap()));
        });
    }

    #[test]
    fn what_was_made_for_one_webhook_serves_the_next() {
        let mut asked = Asked::create("pods", pod(r#"{"metadata":{"name":"a"}}"#));
        let of = kind(resource("pods"), "");
        let mut forms = Forms::new(resource("pods"), "", &Features::defaults());
        asked.ask(|write| {
            let first = forms.all(write, &of).unwrap().object.unwrap();
            let second = forms.all(write, &of).unwrap().object.unwrap();
            assert_eq!(first.as_ptr(), second.as_ptr());
            forms.changed();
            let third = forms.all(write, &of).unwrap().object.unwrap();
            assert_ne!(first.as_ptr(), third.as_ptr());
            assert!(
                third.starts_with(br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}"#)
            );
        });
    }
}
