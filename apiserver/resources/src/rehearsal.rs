//! Writes without a store: what the registry makes of an object, as a function of values.
//!
//! It is the part of a request between its body and etcd that depends on nothing else, and the same code:
//! decoding, defaults, the strategy's rules and the generic ones. `examples/oracle` holds it against
//! upstream's. What needs the server is left out: admission, managed fields, allocation.

use proto::catalogue::{self, Release, Resource};
use proto::{Value, codec};

use super::strategy::Part;
use super::{Cx, Strategy, before, defaults, strategies};
use crate::negotiate::Encoding;
use crate::object::{self, Type};
use crate::options::FieldValidation;
use crate::status::Failure;

/// One resource of one version, ready to be written to.
pub struct Rehearsal {
    resource: &'static Resource,
    strategy: &'static Strategy,
    served: Type,
    hub: Type,
}

/// What would be stored.
pub struct Outcome {
    object: Value,
    hub: Type,
    pub warnings: Vec<String>,
}

impl Outcome {
    /// The object as JSON, in the version in which it is stored, without version and kind.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        codec::json::encode(&self.object, self.hub.message, &mut out);
        out
    }
}

impl Rehearsal {
    /// None of what is not stored.
    #[must_use]
    pub fn of(group: &str, version: &str, resource: &str) -> Option<Self> {
        let resource = catalogue::resources()
            .iter()
            .find(|r| (r.group, r.version, r.name) == (group, version, resource))?;
        let (served, hub) = object::types(resource, Release::COMPATIBLE)?;
        Some(Self {
            resource,
            strategy: strategies::of(resource),
            served,
            hub,
        })
    }

    /// A new object.
    pub fn create(&self, cx: &Cx<'_>, uid: &str, body: &[u8]) -> Result<Outcome, Failure> {
        let mut object = self.decode(cx, body)?;
        before::receive(&mut object, self.resource, cx.namespace)?;
        before::fill_system_fields(&mut object, cx.now, uid);
        let warnings = before::create(cx, self.resource, self.strategy, &mut object)?;
        Ok(self.outcome(object, warnings))
    }

    /// A new state of a stored object, or of one of its parts. The old one comes from etcd.
    pub fn update(
        &self,
        cx: &Cx<'_>,
        subresource: &str,
        body: &[u8],
        old: &[u8],
    ) -> Result<Outcome, Failure> {
        let part = self.part(subresource)?;
        let old = self.stored(cx, old)?;
        let mut object = self.decode(cx, body)?;
        let warnings = before::update(cx, self.resource, self.strategy, part, &mut object, &old)?;
        Ok(self.outcome(object, warnings))
    }

    fn part(&self, subresource: &str) -> Result<Option<Part>, Failure> {
        if subresource.is_empty() {
            return Ok(None);
        }
        let part = self.strategy.part(subresource);
        part.map(Some).ok_or_else(Failure::no_such_resource)
    }

    fn decode(&self, cx: &Cx<'_>, body: &[u8]) -> Result<Value, Failure> {
        let ignore = FieldValidation::Ignore;
        let decoded = object::decode(body, Encoding::Json, &self.served, ignore)?;
        defaults::complete(
            cx.gates,
            self.strategy,
            &self.served,
            &self.hub,
            decoded.object,
        )
    }

    /// An object as it is read where it was stored: what is empty is nothing there.
    fn stored(&self, cx: &Cx<'_>, body: &[u8]) -> Result<Value, Failure> {
        let ignore = FieldValidation::Ignore;
        let object = object::decode(body, Encoding::Json, &self.hub, ignore)?.object;
        let mut raw = Vec::new();
        codec::protobuf::encode(&object, self.hub.message, &mut raw);
        let object = codec::protobuf::decode(&raw, self.hub.message)
            .map_err(|e| Failure::bad_request(e.to_string()))?;
        defaults::complete(cx.gates, self.strategy, &self.hub, &self.hub, object)
    }

    fn outcome(&self, object: Value, warnings: Vec<String>) -> Outcome {
        Outcome {
            object,
            hub: self.hub,
            warnings,
        }
    }
}
