//! Managed fields: every write path records here who changed what, and apply goes through here.
//!
//! The rules are [`proto::apply`]'s; this module knows where versions, reset fields and defaults of a
//! resource come from. Upstream: `apimachinery/pkg/util/managedfields` with the strategies'
//! `GetResetFields`.

use proto::apply::{self, Applied, Configuration, Filter, Managed, Subject, Version};
use proto::catalogue::{Resource, names as n};
use proto::{Value, meta};
use resources::object::{self, Type};
use resources::status::{Cause, Details, Failure};

use crate::handler::create;
use crate::registry::{Endpoint, Registry};

/// What is written.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub registry: &'a Registry,
    pub endpoint: &'a Endpoint,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

/// Records who sent an object that is never stored (reviews, requests for tokens).
pub fn record_sent(of: &Type, subresource: &str, object: &mut Value, manager: &str, now: &str) {
    object.remove(&[n::METADATA, n::MANAGED_FIELDS]);
    let own = of.api_version();
    let subject = Subject {
        kind: of.kind,
        api_version: &own,
        subresource,
        message: of.message,
        version: &|version| {
            (version == own).then(|| Version {
                message: of.message,
                filter: Filter::default(),
            })
        },
    };
    let nothing = Value::object();
    let recorded = apply::update(&subject, &nothing, object, Managed::default(), manager, now);
    if let Ok(managed) = recorded {
        set(object, managed);
    }
}

impl Target<'_> {
    fn subject<R>(&self, f: impl FnOnce(&Subject<'_>) -> R) -> R {
        let served = &self.endpoint.served;
        let api_version = served.api_version();
        f(&Subject {
            kind: served.kind,
            api_version: &api_version,
            subresource: self.subresource,
            message: served.message,
            version: &|api_version| self.version(api_version),
        })
    }

    /// The kind in another served version of its group. Upstream does not follow fields from one group
    /// to another either (events).
    fn version(&self, api_version: &str) -> Option<Version> {
        let (group, version) = meta::parse_api_version(api_version)?;
        if group != self.endpoint.resource.group {
            return None;
        }
        let found = self
            .registry
            .find(group, version, self.endpoint.resource.name)
            .filter(|e| e.hub == self.endpoint.hub)?;
        Some(Version {
            message: found.served.message,
            filter: filter(found.resource, self.subresource),
        })
    }

    fn served_form(&self, object: &Value) -> Result<Value, Failure> {
        let mut object = object.clone();
        object.remove(&[n::METADATA, n::MANAGED_FIELDS]);
        object::convert(object, &self.endpoint.hub, &self.endpoint.served)
    }

    /// Records a create (with no old object), an update or a patch in the new object. What cannot be
    /// compared leaves managers as they were.
    pub fn record(&self, old: Option<&Value>, new: &mut Value, manager: &str, now: &str) {
        let given = new.remove(&[n::METADATA, n::MANAGED_FIELDS]);
        let managed = self.start(old, given.as_ref());
        let updated = self.subject(|subject| {
            let nothing = Value::object();
            let old = old.unwrap_or(&nothing);
            if self.endpoint.hub.message == subject.message {
                return apply::update(subject, old, new, managed, manager, now).ok();
            }
            let (old, new) = (self.served_form(old).ok()?, self.served_form(new).ok()?);
            apply::update(subject, &old, &new, managed, manager, now).ok()
        });
        match updated {
            Some(managed) => set(new, managed),
            None => {
                let before = old.and_then(|o| o.at(&[n::METADATA, n::MANAGED_FIELDS]));
                if let Some(list) = before {
                    new.set(&[n::METADATA, n::MANAGED_FIELDS], list.clone());
                }
            }
        }
    }

    /// The managers before a write. A client may write them itself, but not through a subresource; one
    /// that does not know of them loses none.
    fn start(&self, old: Option<&Value>, given: Option<&Value>) -> Managed {
        let live = || old.map(of).unwrap_or_default();
        if !self.subresource.is_empty() {
            return live();
        }
        if apply::is_reset(given) {
            return Managed::default();
        }
        let given = given.and_then(Value::as_list).unwrap_or_default();
        match Managed::read(given) {
            Ok(managed) if !managed.is_empty() => managed,
            _ => live(),
        }
    }

    /// An object of the hub's version with a configuration applied; with no live object, a new one.
    pub fn apply(
        &self,
        live: Option<&Value>,
        configuration: &Configuration<'_>,
    ) -> Result<Value, Failure> {
        let managed = match live {
            Some(live) => read(live)?,
            None => Managed::default(),
        };
        let seen = match live {
            Some(live) => self.served_form(live)?,
            None => Value::object(),
        };
        let applied = self
            .subject(|subject| apply::apply(subject, &seen, managed, configuration))
            .map_err(failure)?;
        let Applied {
            object,
            managed,
            last_applied,
        } = applied;
        let mut object = match (object, live) {
            (Some(object), _) => self.receive(&object)?,
            (None, Some(live)) => live.clone(),
            (None, None) => create::default(self.endpoint, Value::object())?,
        };
        if let Some(text) = last_applied {
            set_last_applied(&mut object, &text);
        }
        set(&mut object, managed);
        Ok(object)
    }

    /// From the JSON that an apply made to an object of the hub's version.
    fn receive(&self, json: &Value) -> Result<Value, Failure> {
        let served = &self.endpoint.served;
        let mut object = apply::conformed(json, served.message).map_err(|e| {
            let (namespace, name) = (meta::namespace(json), meta::name(json));
            let gvk = format!("{}/{}, Kind={}", served.group, served.version, served.kind);
            Failure::new(
                500,
                "",
                format!(
                    "failed to convert new object ({namespace}/{name}; {gvk}) to proper version: unable to convert unstructured object to {gvk}: {e}"
                ),
            )
        })?;
        if let Some(map) = object.as_map_mut() {
            map.remove(n::KIND);
            map.remove(n::API_VERSION);
        }
        create::default(self.endpoint, object)
    }
}

/// What a write to a resource or to one of its subresources can own.
fn filter(resource: &Resource, subresource: &str) -> Filter {
    if subresource.is_empty() {
        return Filter::without(resource.reset_fields);
    }
    let reset = resource.subresource(subresource).map(|s| s.reset_fields);
    Filter::without(reset.unwrap_or_default())
}

/// The managers of a stored object; none if they cannot be read.
fn of(object: &Value) -> Managed {
    Managed::read(meta::managed_fields(object)).unwrap_or_default()
}

/// The managers of a stored object, for apply, which must not lose them.
pub fn read(object: &Value) -> Result<Managed, Failure> {
    Managed::read(meta::managed_fields(object))
        .map_err(|e| Failure::new(500, "", format!("failed to decode managed fields: {e}")))
}

pub fn set(object: &mut Value, managed: Managed) {
    let list = managed.write().unwrap_or_default();
    meta::set(object, n::MANAGED_FIELDS, list);
}

/// The annotation of client-side apply follows, unless annotations would grow too large.
fn set_last_applied(object: &mut Value, text: &str) {
    const KEY: &str = "kubectl.kubernetes.io/last-applied-configuration";
    const MAX: usize = 256 * 1024;
    meta::set_annotation(object, KEY, text);
    let size = |(key, value): (&proto::Name, &Value)| {
        key.as_str().len() + value.as_str().map_or(0, str::len)
    };
    if meta::annotations(object).iter().map(size).sum::<usize>() > MAX {
        object.remove(&[n::METADATA.text(), n::ANNOTATIONS.text(), KEY]);
    }
}

/// An apply that failed, as clients see it.
pub fn failure(error: apply::Error) -> Failure {
    match error {
        apply::Error::Conflicts(conflicts) => {
            let causes = conflicts
                .causes()
                .into_iter()
                .map(|(message, field)| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message,
                    field,
                });
            let details = Details {
                causes: causes.collect(),
                ..Details::default()
            };
            Failure::new(409, "Conflict", conflicts.message()).with_details(details)
        }
        apply::Error::Request(why) => Failure::bad_request(why),
        apply::Error::Object(why) => Failure::new(500, "", why),
    }
}

/// A write that changes nothing but times of managers keeps the old ones, so that it is none.
pub fn keep_time_if_nothing_else_changed(new: &mut Value, old: &Value, endpoint: &Endpoint) {
    let (is, was) = (meta::managed_fields(new), meta::managed_fields(old));
    if is.is_empty() || is.len() != was.len() || is == was {
        return;
    }
    let same = is.iter().zip(was).all(|(a, b)| {
        let untimed = |entry: &Value| {
            let mut entry = entry.clone();
            entry.remove(&[n::TIME]);
            entry
        };
        untimed(a) == untimed(b)
    });
    if !same {
        return;
    }
    let timed = Value::List(is.to_vec());
    new.set(&[n::METADATA, n::MANAGED_FIELDS], was.to_vec());
    // Stored bytes say whether anything else differs: empty lists and absent ones are the same there.
    if object::to_stored(new, &endpoint.hub) != object::to_stored(old, &endpoint.hub) {
        new.set(&[n::METADATA, n::MANAGED_FIELDS], timed);
    }
}
