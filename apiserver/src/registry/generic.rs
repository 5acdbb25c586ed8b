//! Create, update, delete and deletecollection, once for all resources: upstream's
//! `registry/generic/registry.Store` with the parts of its handlers that belong to a write.
//!
//! Attempts may be made on cached objects and are repeated by the store until etcd has accepted one or
//! confirmed a refusal: see [`store::Collection::update`].

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::catalogue::{Resource, ResourceFlags, names as n};
use proto::path::FieldError;
use proto::{Value, meta};
use resources::before;
use resources::clock::Clock;
use resources::object;
use resources::options::WriteOptions;
use resources::status::Failure;
use resources::strategy::{Cx, Part};
use store::{Change, Entry, UpdateError, WriteError};

use super::Endpoint;
use super::hooks::Finish;
use crate::admission::Options;
use crate::audit::Trail;
use crate::auth::User;
use crate::authz::{Attributes, Decision, refusal};
use crate::managed;
use crate::server::{Server, read_failure, write_failure};

mod admit;
mod delete;
mod timed;

pub use admit::Lens;
use admit::Step;

/// The code of an object that etcd does not take. It is tried once more without managed fields, which
/// can be large.
const TOO_LARGE: u16 = 413;
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
    /// What it is about, as admission has it.
    pub resource: &'static Resource,
    /// When the time of its request is over, if it has one.
    pub deadline: Option<Instant>,
    /// Deletions have passed admission in another form.
    pub admitted: bool,
    /// Of the request that the write belongs to, if there is one.
    pub verb: &'a str,
    /// What is recorded of the request that the write belongs to, if anything is.
    pub trail: Option<&'a Trail>,
    warnings: Mutex<Vec<String>>,
}

/// What a write left behind.
pub struct Written {
    pub entry: Arc<Entry>,
    pub created: bool,
}

/// What an update is besides the change itself.
#[derive(Clone, Copy, Default)]
pub struct Update {
    /// The rules of the subresource that is written.
    pub part: Option<Part>,
    /// A name that does not exist is created, whatever the resource says.
    pub may_create: bool,
    /// The new object says itself who manages what; nothing is recorded.
    pub recorded: bool,
    /// The object came as a whole: a uid in it says which object is meant.
    pub whole: bool,
    /// Managed fields are left out: with them the object is too large for etcd.
    pub untracked: bool,
    /// What the client sent has passed admission, and this is what comes of it.
    pub admitted: bool,
    /// What it is about is a form of the object, not the object.
    pub lens: Option<&'static Lens>,
}

impl<'a> Write<'a> {
    #[must_use]
    pub fn new(
        server: &'a Arc<Server>,
        endpoint: &'a Endpoint,
        user: &'a User,
        namespace: &'a str,
        manager: &'a str,
    ) -> Self {
        Self {
            server,
            endpoint,
            user,
            namespace,
            manager,
            subresource: "",
            resource: endpoint.resource,
            deadline: None,
            admitted: false,
            verb: "",
            trail: None,
            warnings: Mutex::default(),
        }
    }

    /// What the client should be warned of.
    #[must_use]
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    fn cx<'b>(&'b self, clock: &'b Clock, dry_run: bool, objections: &'b [FieldError]) -> Cx<'b> {
        Cx {
            gates: self.server.config.features.gates(),
            user: self.user,
            namespace: self.namespace,
            now: &clock.text,
            now_seconds: clock.seconds,
            dry_run,
            allow_privileged: self.server.config.allow_privileged,
            objections,
        }
    }

    /// The key of a name below the resource's prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        if self.endpoint.resource.namespaced {
            format!("{}/{name}", self.namespace)
        } else {
            name.to_owned()
        }
    }

    /// The namespace that objects are in; none for those of cluster scope.
    fn stored_namespace(&self) -> &str {
        match self.endpoint.resource.namespaced {
            true => self.namespace,
            false => "",
        }
    }

    fn ttl(&self) -> Option<i64> {
        self.endpoint
            .resource
            .ttl_seconds
            .map(|_| self.server.config.event_ttl.as_secs().cast_signed())
    }

    /// What is written, for managed fields.
    #[must_use]
    pub fn target(&self) -> managed::Target<'_> {
        managed::Target {
            registry: &self.server.registry,
            endpoint: self.endpoint,
            subresource: self.subresource,
        }
    }

    fn record(&self, old: Option<&Value>, new: &mut Value) {
        let now = Clock::now().text;
        self.target().record(old, new, self.manager, &now);
    }

    async fn begin(
        &self,
        new: Option<&mut Value>,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Held, Failure> {
        // A subresource changes nothing that is allocated, but may let a deleted object go.
        let concerned = new.is_none() || self.subresource.is_empty();
        match self.endpoint.hooks.filter(|_| concerned) {
            Some(hooks) => Ok(Held(Some(
                hooks.begin(self.server, new, old, dry_run).await?,
            ))),
            None => Ok(Held(None)),
        }
    }

    /// An entry that is not stored: the answer to a dry run, or to an update that removes the object.
    fn imagined(&self, key: &str, value: Bytes, revision: i64) -> Result<Arc<Entry>, Failure> {
        use store::Decoder;
        let decoder = &self.endpoint.decoder;
        // What was never stored has no version, or that which its client sent.
        let entry = match revision {
            0 => decoder.unversioned(key, &value),
            revision => decoder.entry(key, value, revision),
        };
        Ok(Arc::new(entry.map_err(Failure::internal)?))
    }

    /// Stores a new object. `object` is decoded, defaulted, in the hub's version.
    pub async fn create(
        &self,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        self.dedup_owners(&mut object, before::ON_ARRIVAL);
        let object = self.receive(object, options, false).await?;
        let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut last = None;
        for _ in 0..attempts {
            match Box::pin(self.create_once(object.clone(), generated, options)).await {
                Err(f) if generated && f.reason() == "AlreadyExists" => last = Some(f),
                Err(f) if f.code() == TOO_LARGE => {
                    let mut bare = object;
                    bare.remove(&[n::METADATA, n::MANAGED_FIELDS]);
                    return Box::pin(self.create_once(bare, generated, options)).await;
                }
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("no name was tried")))
    }

    /// What happens to a new object before it has a name: system fields go, managed fields and
    /// mutating admission come.
    async fn receive(
        &self,
        mut object: Value,
        options: &WriteOptions,
        recorded: bool,
    ) -> Result<Value, Failure> {
        before::receive(&mut object, self.endpoint.resource, self.namespace)?;
        if !recorded {
            self.record(None, &mut object);
        }
        let name = meta::name(&object).to_owned();
        let told = Options::Create(options);
        self.admit(Step::Mutate, &name, Some(&mut object), None, told)
            .await?;
        // Who changed the object may have put it elsewhere.
        before::match_namespace(&mut object, self.stored_namespace())?;
        self.dedup_owners(&mut object, before::AFTER_ADMISSION);
        Ok(object)
    }

    fn dedup_owners(&self, object: &mut Value, when: &str) {
        let warning = before::dedup_owner_references(object, when);
        self.warnings.lock().extend(warning);
    }

    async fn create_once(
        &self,
        mut object: Value,
        generated: bool,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        if generated {
            let prefix = meta::generate_name(&object).to_owned();
            let name = match self.endpoint.strategy.draws_names {
                true => meta::generated_name(&prefix, &mut || rand::random()),
                false => prefix,
            };
            object.set(&[n::METADATA, n::NAME], name);
        }
        let held = self.prepare(&mut object, options).await?;
        let result = self.insert(&object, generated, options).await;
        held.finish(result.is_ok() && !options.dry_run).await;
        result
    }

    /// Makes a new object ready to be stored. What the strategy's hooks took is given back if that
    /// fails.
    async fn prepare(&self, object: &mut Value, options: &WriteOptions) -> Result<Held, Failure> {
        let Endpoint {
            resource, strategy, ..
        } = self.endpoint;
        let clock = Clock::now();
        before::fill_system_fields(object, &clock.text, &uuid::Uuid::new_v4().to_string());
        let held = self.begin(Some(object), None, options.dry_run).await?;
        let objections = self.objections(object, None).await;
        // A client is told of these even if the object is refused.
        let early = (strategy.early_warnings)(object);
        let checked = match before::create(
            &self.cx(&clock, options.dry_run, &objections),
            resource,
            strategy,
            object,
        ) {
            Ok(mut warnings) => {
                self.warnings.lock().append(&mut warnings);
                let name = meta::name(object).to_owned();
                let options = Options::Create(options);
                self.admit(Step::Validate, &name, Some(object), None, options)
                    .await
            }
            Err(failure) => {
                self.warnings.lock().extend(early);
                Err(failure)
            }
        };
        match checked {
            Ok(()) => Ok(held),
            Err(failure) => {
                held.finish(false).await;
                Err(failure)
            }
        }
    }

    async fn insert(
        &self,
        object: &Value,
        generated: bool,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let Endpoint {
            resource,
            hub,
            collection,
            ..
        } = self.endpoint;
        let name = meta::name(object);
        let key = self.key(name);
        if !options.dry_run && has_version(object) {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Failure::new(500, "", why));
        }
        if options.dry_run {
            let current = collection.get(&key, store::At::Latest).await;
            if current.map_err(read_failure)?.is_some() {
                return Err(self.exists(name, &key).await);
            }
            // It keeps the version that the client sent, whatever that is.
            let (mut sent, of) = (Vec::with_capacity(1024), hub.message);
            proto::codec::protobuf::seal(object, of, &hub.api_version(), hub.kind, &mut sent);
            return Ok(Written {
                entry: self.imagined(&key, sent.into(), 0)?,
                created: true,
            });
        }
        let value = object::to_stored(object, hub);
        let _span = self.storing("Create etcd3", &key);
        let created = self.stored(collection.create(&key, value, self.ttl()));
        match created.await {
            Ok(written) => self.written(written, true),
            Err(WriteError::AlreadyExists(_)) if generated => Err(Failure::generate_name_conflict(
                resource.group,
                resource.name,
                name,
            )),
            Err(WriteError::AlreadyExists(_)) => Err(self.exists(name, &key).await),
            Err(e) => Err(write_failure(&e, resource.group, resource.name, name)),
        }
    }

    fn written(&self, written: store::Written, created: bool) -> Result<Written, Failure> {
        match written.entry {
            Some(entry) => Ok(Written { entry, created }),
            None => Err(Failure::internal("a write left nothing behind")),
        }
    }

    /// Upstream tells a client when the name is taken by an object that is on its way out.
    async fn exists(&self, name: &str, key: &str) -> Failure {
        let r = self.endpoint.resource;
        let failure = Failure::already_exists(r.group, r.name, name);
        let current = self
            .endpoint
            .collection
            .get(key, store::At::Latest)
            .await
            .ok()
            .flatten();
        let deleting = current
            .and_then(|e| object::from_body(&e.body, &self.endpoint.hub).ok())
            .is_some_and(|o| meta::is_deleting(&o));
        if deleting {
            failure.prefixed("object is being deleted: ")
        } else {
            failure
        }
    }

    /// Changes an object. `change` makes the new object from the current one; it is called again if
    /// the object changed meanwhile. With no current object it is called only if the resource allows
    /// creation by update, or the update itself.
    pub async fn update<C>(
        &self,
        name: &str,
        options: &WriteOptions,
        how: Update,
        change: C,
    ) -> Result<Written, Failure>
    where
        C: Fn(Option<&Value>) -> Result<Value, Failure> + Sync,
    {
        // A write is many steps deep: on the heap it costs one allocation, on the stack the reserve of a thread.
        match Box::pin(self.update_once(name, options, how, &change)).await {
            Err(f) if f.code() == TOO_LARGE && !how.recorded => {
                let untracked = true;
                let how = Update { untracked, ..how };
                Box::pin(self.update_once(name, options, how, &change)).await
            }
            other => other,
        }
    }

    async fn update_once<C>(
        &self,
        name: &str,
        options: &WriteOptions,
        how: Update,
        change: &C,
    ) -> Result<Written, Failure>
    where
        C: Fn(Option<&Value>) -> Result<Value, Failure> + Sync,
    {
        check_segment(name)?;
        let key = self.key(name);
        let run = Run {
            name,
            key: &key,
            options,
            how,
            change,
            state: Mutex::default(),
        };
        let attempt = |current| self.attempt(&run, current);
        let outcome = {
            let _span = self.storing("GuaranteedUpdate etcd3", &key);
            self.updated(&key, attempt).await
        };
        let state = run.state.into_inner();
        let success = outcome.is_ok() && !options.dry_run;
        state.held.finish(success).await;
        if success && let Some(gone) = &state.removes {
            self.after_delete(gone).await;
        }
        let r = self.endpoint.resource;
        match (outcome, state.answer) {
            (Ok(_), Some(entry)) => Ok(Written {
                entry,
                created: state.created,
            }),
            (Ok(written), None) => self.written(written, state.created),
            (Err(UpdateError::Refused(failure)), _) => Err(failure),
            (Err(UpdateError::Write(e)), _) => Err(write_failure(&e, r.group, r.name, name)),
        }
    }

    /// One attempt of an update on the object as it is now.
    async fn attempt<C>(
        &self,
        run: &Run<'_, C>,
        current: Option<Arc<Entry>>,
    ) -> Result<Change, Failure>
    where
        C: Fn(Option<&Value>) -> Result<Value, Failure> + Sync,
    {
        let before = std::mem::take(&mut *run.state.lock());
        before.held.finish(false).await;
        match current {
            Some(entry) => self.attempt_change(run, &entry).await,
            None => self.attempt_create(run).await,
        }
    }

    async fn attempt_create<C>(&self, run: &Run<'_, C>) -> Result<Change, Failure>
    where
        C: Fn(Option<&Value>) -> Result<Value, Failure> + Sync,
    {
        let r = self.endpoint.resource;
        if !(run.how.may_create || r.has(ResourceFlags::CREATE_ON_UPDATE)) || run.how.part.is_some()
        {
            return Err(Failure::not_found(r.group, r.name, run.name));
        }
        let object = (run.change)(None)?;
        if !meta::uid(&object).is_empty() {
            return Err(self.uid_conflict(run.name, meta::uid(&object), ""));
        }
        let mut object = self.receive(object, run.options, run.how.recorded).await?;
        self.authorize_create(run.name).await?;
        let held = self.prepare(&mut object, run.options).await?;
        let value = object::to_stored(&object, &self.endpoint.hub);
        let mut state = run.state.lock();
        state.held = held;
        state.created = true;
        if run.options.dry_run {
            state.answer = Some(self.imagined(run.key, value, 0)?);
            return Ok(Change::Nothing);
        }
        Ok(Change::Put {
            value,
            ttl: self.ttl(),
        })
    }

    /// Who may update may not create yet.
    async fn authorize_create(&self, name: &str) -> Result<(), Failure> {
        let r = self.endpoint.resource;
        let asked = Attributes {
            namespace: self.namespace,
            subresource: self.subresource,
            name,
            ..Attributes::about(self.user, "create", r.group, r.version, r.name)
        };
        match self.server.authorizers.decide(&asked).await {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                let why = refusal(&asked, &reason);
                Err(Failure::forbidden(r.group, r.name, name, &why))
            }
        }
    }

    async fn attempt_change<C>(
        &self,
        run: &Run<'_, C>,
        current: &Arc<Entry>,
    ) -> Result<Change, Failure>
    where
        C: Fn(Option<&Value>) -> Result<Value, Failure> + Sync,
    {
        let hub = &self.endpoint.hub;
        let mut old = object::from_body(&current.body, hub)?;
        if let Some(complete) = self.endpoint.strategy.complete {
            complete(&mut old);
        }
        let mut new = (run.change)(Some(&old))?;
        self.check_version(run.name, &mut new, &old, run.how)?;
        if run.how.untracked {
            new.remove(&[n::METADATA, n::MANAGED_FIELDS]);
        } else if !run.how.recorded {
            self.record(Some(&old), &mut new);
        }
        if !run.how.admitted {
            self.admit_update(run, Step::Mutate, &mut new, &old).await?;
        }
        self.dedup_owners(&mut new, before::AFTER_ADMISSION);
        let held = self
            .begin(Some(&mut new), Some(&old), run.options.dry_run)
            .await?;
        if let Err(failure) = self.check_change(run, &mut new, &old).await {
            held.finish(false).await;
            return Err(failure);
        }
        let value = object::to_stored(&new, hub);
        let mut state = run.state.lock();
        state.held = held;
        let removes = emptied(&new, &old) && (self.endpoint.strategy.removable)(&new, &old);
        if removes || run.options.dry_run {
            // The client sees its own object, whether it is stored or not.
            state.answer = Some(self.imagined(run.key, value.clone(), current.revision)?);
        }
        if run.options.dry_run {
            return Ok(Change::Nothing);
        }
        if removes {
            state.removes = Some(old);
            return Ok(Change::Delete);
        }
        // What was mended when it was read is written as it is now.
        if !current.mended && value == object::to_stored(&old, hub) {
            return Ok(Change::Nothing);
        }
        Ok(Change::Put {
            value,
            ttl: self.ttl(),
        })
    }

    async fn check_change<C>(
        &self,
        run: &Run<'_, C>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Failure> {
        let Endpoint {
            resource, strategy, ..
        } = self.endpoint;
        let clock = Clock::now();
        let objections = self.objections(new, Some(old)).await;
        let cx = self.cx(&clock, run.options.dry_run, &objections);
        let mut warnings = before::update(&cx, resource, strategy, run.how.part, new, old)?;
        self.warnings.lock().append(&mut warnings);
        managed::keep_time_if_nothing_else_changed(new, old, self.endpoint);
        if run.how.admitted {
            return Ok(());
        }
        self.admit_update(run, Step::Validate, new, old).await
    }

    fn uid_conflict(&self, name: &str, asked: &str, have: &str) -> Failure {
        let r = self.endpoint.resource;
        let prefix = self.server.config.etcd.prefix.trim_matches('/');
        let path = self.endpoint.collection.path();
        let key = self.key(name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /{prefix}/{path}/{key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {have}"
        );
        Failure::conflict(r.group, r.name, name, &why)
    }

    /// The version that the client sent must be the current one, unless it sent none and the resource
    /// allows that.
    fn check_version(
        &self,
        name: &str,
        new: &mut Value,
        old: &Value,
        how: Update,
    ) -> Result<(), Failure> {
        let r = self.endpoint.resource;
        let uid = meta::uid(new);
        if how.whole && !uid.is_empty() && uid != meta::uid(old) {
            return Err(self.uid_conflict(name, uid, meta::uid(old)));
        }
        let asked = meta::resource_version(new);
        let current = meta::resource_version(old);
        // An error of upstream's store that nothing gives a code to.
        let not_a_version = |_| {
            let text = proto::path::quote(asked);
            Failure::new(
                500,
                "",
                format!("strconv.ParseUint: parsing {text}: invalid syntax"),
            )
        };
        let number = match asked {
            "" => 0,
            asked => asked.parse::<u64>().map_err(not_a_version)?,
        };
        if number == 0 {
            if !r.has(ResourceFlags::UNCONDITIONAL_UPDATE) {
                let error = FieldError {
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

    /// Gives back what a deleted object held.
    async fn after_delete(&self, old: &Value) {
        if let Ok(held) = self.begin(None, Some(old), false).await {
            held.finish(true).await;
        }
    }
}

/// An update under way.
struct Run<'a, C> {
    name: &'a str,
    key: &'a str,
    options: &'a WriteOptions,
    how: Update,
    change: &'a C,
    state: Mutex<Attempted>,
}

/// What the last attempt left.
#[derive(Default)]
struct Attempted {
    held: Held,
    created: bool,
    /// What the client is answered with, if it is not what is stored.
    answer: Option<Arc<Entry>>,
    /// The object that the update removes.
    removes: Option<Value>,
}

/// A name that can stand in a key (`genericregistry.NamespaceKeyFunc`).
pub fn check_segment(name: &str) -> Result<(), Failure> {
    let problems = meta::path_segment_problems(name);
    if problems.is_empty() {
        return Ok(());
    }
    let (name, problems) = (proto::path::quote(name), problems.join(";"));
    Err(Failure::bad_request(format!(
        "Name parameter invalid: {name}: {problems}"
    )))
}

/// Whether an object says which version it is; upstream's store only knows numbers.
fn has_version(object: &Value) -> bool {
    let version = meta::resource_version(object).parse::<u64>();
    version.is_ok_and(|version| version != 0)
}

/// Upstream's `ShouldDeleteDuringUpdate`.
fn emptied(new: &Value, old: &Value) -> bool {
    meta::finalizers(new).is_empty()
        && meta::is_deleting(old)
        && old
            .at(&[n::METADATA, n::DELETION_GRACE_PERIOD_SECONDS])
            .and_then(Value::as_int)
            .unwrap_or(0)
            == 0
}

/// What the strategy's hooks took for this write.
#[derive(Default)]
struct Held(Option<Box<dyn Finish>>);

impl Held {
    async fn finish(self, success: bool) {
        if let Some(finish) = self.0 {
            finish.finish(success).await;
        }
    }
}
