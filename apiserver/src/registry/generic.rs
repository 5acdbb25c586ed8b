//! Create, update, delete and deletecollection, once for all resources: upstream's
//! `registry/generic/registry.Store` with the parts of its handlers that belong to a write.
//!
//! Writes try first from the cache. What they find there is only believed if it leads to a write, which
//! etcd compares; an error or "nothing to do" found on cached state is confirmed on etcd before it is
//! answered.

use std::sync::Arc;

use bytes::Bytes;
use proto::catalogue::{ResourceFlags, names as n};
use proto::{Value, meta};
use store::{At, Entry, Expect, WriteError};

use super::before::{self, Deletion};
use super::strategy::{Cx, Finish, Part};
use super::Endpoint;
use crate::admission::{self, Operation};
use crate::auth::User;
use crate::managed;
use crate::object;
use crate::options::{DeleteOptions, WriteOptions};
use crate::server::Server;
use crate::status::Failure;

/// Upstream tries a generated name that often.
const NAME_ATTEMPTS: usize = 8;

/// A write on behalf of somebody.
pub struct Write<'a> {
    pub server: &'a Arc<Server>,
    pub endpoint: &'a Endpoint,
    pub user: &'a User,
    /// Of the path; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Who is recorded in managed fields: the option, or the user agent's first part.
    pub manager: &'a str,
    pub subresource: &'a str,
    pub warnings: Vec<String>,
}

/// What a write left behind.
pub struct Written {
    pub entry: Arc<Entry>,
    pub created: bool,
}

impl Write<'_> {
    fn cx<'b>(&'b self, clock: &'b Clock, dry_run: bool) -> Cx<'b> {
        Cx { user: self.user, namespace: self.namespace, now: &clock.text, now_seconds: clock.seconds, dry_run }
    }

    /// The key of a name below the resource's prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        if self.endpoint.resource.namespaced { format!("{}/{name}", self.namespace) } else { name.to_owned() }
    }

    fn failure(&self, name: &str, error: WriteError) -> Failure {
        let r = self.endpoint.resource;
        crate::server::write_failure(error, r.group, r.name, name)
    }

    async fn admit(&mut self, operation: Operation, name: &str, object: &mut Value, old: Option<&Value>, dry_run: bool, mutate: bool) -> Result<(), Failure> {
        let mut warnings = Vec::new();
        let mut write = admission::Attributes {
            operation,
            resource: self.endpoint.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            object: Some(object),
            old,
            user: self.user,
            dry_run,
            warnings: &mut warnings,
        };
        let chain = &self.server.admission;
        let outcome =
            if mutate { chain.mutate(self.server, &mut write).await } else { chain.validate(self.server, &mut write).await };
        self.warnings.append(&mut warnings);
        outcome
    }

    /// Stores a new object. `object` is decoded, defaulted, in the hub's version.
    pub async fn create(&mut self, mut object: Value, options: &WriteOptions) -> Result<Written, Failure> {
        before::wipe_system_fields(&mut object);
        let namespace = if self.endpoint.resource.namespaced { self.namespace } else { "" };
        before::match_namespace(&mut object, namespace)?;
        managed::record(&managed::Change {
            old: None,
            manager: self.manager,
            api_version: &self.endpoint.served.api_version(),
            subresource: self.subresource,
            now: &Clock::now().text,
            message: self.endpoint.hub.message,
        }, &mut object);
        let name = meta::name(&object).to_owned();
        self.admit(Operation::Create, &name, &mut object, None, options.dry_run, true).await?;
        let generated = name.is_empty() && !meta::generate_name(&object).is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut last = None;
        for _ in 0..attempts {
            match self.create_once(object.clone(), generated, options).await {
                Err(f) if generated && f.reason() == "AlreadyExists" => last = Some(f),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("no name was tried")))
    }

    async fn create_once(&mut self, mut object: Value, generated: bool, options: &WriteOptions) -> Result<Written, Failure> {
        let clock = Clock::now();
        before::fill_system_fields(&mut object, &clock.text, &uuid::Uuid::new_v4().to_string());
        if generated {
            let name = meta::generated_name(meta::generate_name(&object), &mut || rand::random());
            object.ensure(&[n::METADATA, n::NAME]).clone_from(&name.into());
        }
        let held = self.begin(Some(&mut object), None, options.dry_run).await?;
        let result = self.create_prepared(&mut object, generated, options, &clock).await;
        held.finish(result.is_ok() && !options.dry_run).await;
        result
    }

    async fn create_prepared(&mut self, object: &mut Value, generated: bool, options: &WriteOptions, clock: &Clock) -> Result<Written, Failure> {
        let Endpoint { resource, strategy, hub, collection, .. } = self.endpoint;
        let mut warnings = before::create(&self.cx(clock, options.dry_run), resource, strategy, object)?;
        self.warnings.append(&mut warnings);
        let name = meta::name(object).to_owned();
        self.admit(Operation::Create, &name, object, None, options.dry_run, false).await?;
        let key = self.key(&name);
        let value = object::to_stored(object, hub);
        if options.dry_run {
            if collection.get(&key, At::Latest).await.map_err(|e| crate::server::read_failure(e))?.is_some() {
                return Err(Failure::already_exists(resource.group, resource.name, &name));
            }
            return Ok(Written { entry: self.imagined(&key, value, 0)?, created: true });
        }
        match collection.put(&key, Expect::Absent, value, resource.ttl_seconds).await {
            Ok(entry) => Ok(Written { entry, created: true }),
            Err(WriteError::Conflict { current }) if generated => {
                let _ = current;
                Err(Failure::generate_name_conflict(resource.group, resource.name, &name))
            }
            Err(WriteError::Conflict { current }) => Err(self.exists(&name, current.as_deref())),
            Err(e) => Err(self.failure(&name, e)),
        }
    }

    /// Upstream tells a client when the name is taken by an object that is on its way out.
    fn exists(&self, name: &str, current: Option<&Entry>) -> Failure {
        let r = self.endpoint.resource;
        let deleting = current
            .and_then(|e| object::from_body(&e.body, &self.endpoint.hub).ok())
            .is_some_and(|o| meta::is_deleting(&o));
        let failure = Failure::already_exists(r.group, r.name, name);
        if deleting { failure.prefixed("object is being deleted: ") } else { failure }
    }

    /// An entry that is not stored: the answer to a dry run.
    fn imagined(&self, key: &str, value: Bytes, revision: i64) -> Result<Arc<Entry>, Failure> {
        self.endpoint.collection.decode(key, value, revision).map(Arc::new).map_err(Failure::internal)
    }

    async fn begin(&self, new: Option<&mut Value>, old: Option<&Value>, dry_run: bool) -> Result<Held, Failure> {
        match self.endpoint.strategy.hooks {
            Some(hooks) => Ok(Held(Some(hooks.begin(self.server, new, old, dry_run).await?))),
            None => Ok(Held(None)),
        }
    }

    /// Changes an object. `change` makes the new object from the current one; it is called again if
    /// the object changed meanwhile. With no current object it is called only if the resource allows
    /// creation by update or `may_create` is set.
    pub async fn update<C>(&mut self, name: &str, options: &WriteOptions, part: Option<Part>, may_create: bool, change: C) -> Result<Written, Failure>
    where
        C: AsyncFn(Option<&Value>) -> Result<Value, Failure>,
    {
        let key = self.key(name);
        let collection = self.endpoint.collection.clone();
        let mut origin = collection.cached(&key);
        let mut live = false;
        if origin.is_none() {
            origin = collection.get(&key, At::Latest).await.map_err(crate::server::read_failure)?;
            live = true;
        }
        loop {
            let attempt = self.update_from(&key, name, origin.as_ref(), options, part, may_create, &change).await;
            // Only a write that etcd accepted needs no confirmation.
            let retry = match attempt {
                Ok(Attempt::Done(written)) => return Ok(written),
                Ok(Attempt::Unchanged(entry)) if live => return Ok(Written { entry, created: false }),
                Err(failure) if live => return Err(failure),
                Ok(Attempt::Raced) => None,
                Ok(Attempt::Unchanged(entry)) => Some(Ok(Written { entry, created: false })),
                Err(failure) => Some(Err(failure)),
            };
            let current = collection.get(&key, At::Live).await.map_err(crate::server::read_failure)?;
            let same = current.as_ref().map(|e| e.revision) == origin.as_ref().map(|e| e.revision);
            match retry {
                Some(outcome) if same => return outcome,
                _ => {}
            }
            origin = current;
            live = true;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one attempt of `update`, with its arguments")]
    async fn update_from<C>(&mut self, key: &str, name: &str, origin: Option<&Arc<Entry>>, options: &WriteOptions, part: Option<Part>, may_create: bool, change: &C) -> Result<Attempt, Failure>
    where
        C: AsyncFn(Option<&Value>) -> Result<Value, Failure>,
    {
        let Endpoint { resource, hub, .. } = self.endpoint;
        let Some(origin) = origin else {
            if !(may_create || resource.has(ResourceFlags::CREATE_ON_UPDATE)) || part.is_some() {
                return Err(Failure::not_found(resource.group, resource.name, name));
            }
            let object = change(None).await?;
            if !meta::uid(&object).is_empty() {
                let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: ", meta::uid(&object));
                return Err(Failure::conflict(resource.group, resource.name, name, &why));
            }
            return self.create(object, options).await.map(Attempt::Done);
        };
        let old = object::from_body(&origin.body, hub)?;
        let mut new = change(Some(&old)).await?;
        self.check_version(name, &mut new, &old, part)?;
        managed::record(&managed::Change {
            old: Some(&old),
            manager: self.manager,
            api_version: &self.endpoint.served.api_version(),
            subresource: self.subresource,
            now: &Clock::now().text,
            message: hub.message,
        }, &mut new);
        self.admit(Operation::Update, name, &mut new, Some(&old), options.dry_run, true).await?;
        let held = self.begin(Some(&mut new), Some(&old), options.dry_run).await?;
        let result = self.update_prepared(key, name, origin, &mut new, &old, options, part).await;
        held.finish(matches!(result, Ok(Attempt::Done(_))) && !options.dry_run).await;
        result
    }

    /// The version that the client sent must be the current one, unless it sent none and the resource
    /// allows that.
    fn check_version(&self, name: &str, new: &mut Value, old: &Value, part: Option<Part>) -> Result<(), Failure> {
        let r = self.endpoint.resource;
        let uid = meta::uid(new);
        if !uid.is_empty() && uid != meta::uid(old) {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(old));
            return Err(Failure::conflict(r.group, r.name, name, &why));
        }
        let asked = meta::resource_version(new);
        let current = meta::resource_version(old);
        if asked.is_empty() || asked == "0" {
            if !r.has(ResourceFlags::UNCONDITIONAL_UPDATE) && part.is_none() {
                let error = proto::path::FieldError {
                    reason: proto::path::Reason::Invalid,
                    field: "metadata.resourceVersion".into(),
                    value: "0".into(),
                    detail: "must be specified for an update".into(),
                };
                return Err(Failure::invalid(r.group, r.name, name, &[error]));
            }
            new.set(&[n::METADATA, n::RESOURCE_VERSION], current);
        } else if asked != current {
            return Err(Failure::stale(r.group, r.name, name));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of `update_from`")]
    async fn update_prepared(&mut self, key: &str, name: &str, origin: &Arc<Entry>, new: &mut Value, old: &Value, options: &WriteOptions, part: Option<Part>) -> Result<Attempt, Failure> {
        let Endpoint { resource, strategy, hub, collection, .. } = self.endpoint;
        let clock = Clock::now();
        let mut warnings = before::update(&self.cx(&clock, options.dry_run), resource, strategy, part, new, old)?;
        self.warnings.append(&mut warnings);
        managed::keep_time_if_nothing_else_changed(new, old);
        self.admit(Operation::Update, name, new, Some(old), options.dry_run, false).await?;
        let value = object::to_stored(new, hub);
        if emptied(new, old) && (strategy.removable)(new, old) {
            // The last finalizer is gone: the client sees its own object, the store loses it.
            let entry = self.imagined(key, value, origin.revision)?;
            if !options.dry_run {
                match collection.remove(key, origin.revision).await {
                    Ok(_) => {}
                    Err(WriteError::Conflict { current: Some(_) }) => return Ok(Attempt::Raced),
                    Err(WriteError::Conflict { current: None }) => {}
                    Err(e) => return Err(self.failure(name, e)),
                }
                self.after_delete(old).await;
            }
            return Ok(Attempt::Done(Written { entry, created: false }));
        }
        if value == object::to_stored(old, hub) && !collection.is_stale(origin) {
            return Ok(Attempt::Unchanged(origin.clone()));
        }
        if options.dry_run {
            return Ok(Attempt::Unchanged(self.imagined(key, value, origin.revision)?));
        }
        match collection.put(key, Expect::Revision(origin.revision), value, resource.ttl_seconds).await {
            Ok(entry) => Ok(Attempt::Done(Written { entry, created: false })),
            Err(WriteError::Conflict { .. }) => Ok(Attempt::Raced),
            Err(e) => Err(self.failure(name, e)),
        }
    }

    /// Gives back what a deleted object held.
    async fn after_delete(&self, old: &Value) {
        if let Ok(held) = self.begin(None, Some(old), false).await {
            held.finish(true).await;
        }
    }

    /// Deletes an object, or marks it for deletion. The second value says whether it is gone.
    pub async fn delete(&mut self, name: &str, options: &DeleteOptions) -> Result<(Arc<Entry>, bool), Failure> {
        let key = self.key(name);
        let r = self.endpoint.resource;
        let collection = self.endpoint.collection.clone();
        let mut origin = collection.cached(&key);
        let mut live = false;
        loop {
            if origin.is_none() && !live {
                origin = collection.get(&key, At::Latest).await.map_err(crate::server::read_failure)?;
                live = true;
            }
            let Some(current) = origin.clone() else {
                return Err(Failure::not_found(r.group, r.name, name));
            };
            match self.delete_from(&key, name, &current, options).await {
                Ok(Some(done)) => return Ok(done),
                Err(failure) if live => return Err(failure),
                Ok(None) | Err(_) => {}
            }
            origin = collection.get(&key, At::Live).await.map_err(crate::server::read_failure)?;
            live = true;
        }
    }

    /// One attempt; none if the object changed meanwhile.
    async fn delete_from(&mut self, key: &str, name: &str, origin: &Arc<Entry>, options: &DeleteOptions) -> Result<Option<(Arc<Entry>, bool)>, Failure> {
        let Endpoint { resource, strategy, hub, collection, .. } = self.endpoint;
        let old = object::from_body(&origin.body, hub)?;
        self.admit_delete(name, &old, options.dry_run).await?;
        let mut object = old.clone();
        let mut options = options.clone();
        let outcome = before::delete(resource, strategy, &mut object, &mut options, Clock::now().seconds)?;
        let then_remove = match outcome {
            Deletion::Pending => return Ok(Some((origin.clone(), false))),
            Deletion::Remove => true,
            Deletion::Mark { then_remove } => {
                if options.dry_run {
                    let entry = self.imagined(key, object::to_stored(&object, hub), origin.revision)?;
                    return Ok(Some((entry, then_remove)));
                }
                if !then_remove {
                    let value = object::to_stored(&object, hub);
                    return match collection.put(key, Expect::Revision(origin.revision), value, resource.ttl_seconds).await {
                        Ok(entry) => Ok(Some((entry, false))),
                        Err(WriteError::Conflict { .. }) => Ok(None),
                        Err(e) => Err(self.failure(name, e)),
                    };
                }
                true
            }
        };
        debug_assert!(then_remove);
        if options.dry_run {
            return Ok(Some((origin.clone(), true)));
        }
        // What the deletion sets is what watchers and the client see last.
        let last = if matches!(outcome, Deletion::Mark { .. }) {
            self.imagined(key, object::to_stored(&object, hub), origin.revision)?
        } else {
            origin.clone()
        };
        match collection.remove(key, origin.revision).await {
            Ok(_) => {
                self.after_delete(&old).await;
                Ok(Some((last, true)))
            }
            Err(WriteError::Conflict { .. }) => Ok(None),
            Err(e) => Err(self.failure(name, e)),
        }
    }

    async fn admit_delete(&mut self, name: &str, old: &Value, dry_run: bool) -> Result<(), Failure> {
        let mut warnings = Vec::new();
        let mut write = admission::Attributes {
            operation: Operation::Delete,
            resource: self.endpoint.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            object: None,
            old: Some(old),
            user: self.user,
            dry_run,
            warnings: &mut warnings,
        };
        self.server.admission.mutate(self.server, &mut write).await?;
        self.server.admission.validate(self.server, &mut write).await?;
        self.warnings.append(&mut warnings);
        Ok(())
    }
}

/// Upstream's `ShouldDeleteDuringUpdate`.
fn emptied(new: &Value, old: &Value) -> bool {
    meta::finalizers(new).is_empty()
        && meta::is_deleting(old)
        && old.at(&[n::METADATA, n::DELETION_GRACE_PERIOD_SECONDS]).and_then(Value::as_int).unwrap_or(0) == 0
}

enum Attempt {
    Done(Written),
    /// Nothing was written because nothing would change (or because it is a dry run).
    Unchanged(Arc<Entry>),
    /// The object changed between read and write.
    Raced,
}

/// What the strategy's hooks took for this write.
struct Held(Option<Box<dyn Finish>>);

impl Held {
    async fn finish(self, success: bool) {
        if let Some(finish) = self.0 {
            finish.finish(success).await;
        }
    }
}

/// The time of a write, once in each form.
pub struct Clock {
    pub seconds: i64,
    pub nanos: i32,
    pub text: String,
}

impl Clock {
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
        Self { seconds, nanos, text: proto::time::print_time(seconds) }
    }
}
