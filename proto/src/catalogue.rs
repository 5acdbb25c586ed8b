//! What Kubernetes 1.37 looks like: every message, field and resource, as flat static tables.
//!
//! The facts are extracted from upstream's Go modules by `hack/catalogue` into the text files of
//! `proto/catalogue/`, one fact a line, sorted, so that a new upstream version shows as a readable
//! diff. `build.rs` turns them into the tables included below and into the views of [`crate::view`].
//! A test holds the text files against the generator.
//!
//! Facts only: rules that need code (conditional defaults, validation, table cells) live in the API
//! server's strategies.

use crate::name::NameId;

mod gates;

pub use gates::{Gate, GateId, GateSpec, GateStage, Gates, Release, gates};

/// A message (a Go struct of the API), by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MsgId(pub(crate) u16);

impl std::fmt::Debug for MsgId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A row of the message table; its fields are ranges of the tables below.
pub(crate) struct Message {
    /// Go package and type, shortened: `core/v1.PodSpec`, `meta/v1.ObjectMeta`.
    pub(crate) name: &'static str,
    /// The name of its OpenAPI definition: `io.k8s.api.core.v1.PodSpec`.
    pub(crate) openapi: &'static str,
    /// Fields in JSON order, embedded structs flattened: a range of [`FLAT`].
    pub(crate) flat: (u16, u16),
    /// The same fields by ascending name id: a range of [`BY_NAME`].
    pub(crate) by_name: (u16, u16),
    /// Own fields by ascending protobuf tag, embedded structs not flattened: a range of [`BY_TAG`].
    pub(crate) by_tag: (u16, u16),
    /// `x-kubernetes-map-type: atomic` on the type: server-side apply treats it as one value.
    pub(crate) atomic: bool,
}

impl MsgId {
    fn row(self) -> &'static Message {
        &MESSAGES[usize::from(self.0)]
    }

    /// Looks a message up by its short Go name, such as `core/v1.Pod`. Binary search; for tests,
    /// tools and start-up tables.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let i = MESSAGES.binary_search_by(|m| m.name.cmp(name)).ok()?;
        u16::try_from(i).ok().map(Self)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    #[must_use]
    pub fn openapi(self) -> &'static str {
        self.row().openapi
    }

    /// Server-side apply treats the whole message as one value.
    #[must_use]
    pub fn is_atomic(self) -> bool {
        self.row().atomic
    }

    /// Fields in JSON order, with the fields of embedded structs in their place.
    pub fn fields(self) -> impl ExactSizeIterator<Item = &'static Field> {
        let (from, to) = self.row().flat;
        FLAT[usize::from(from)..usize::from(to)]
            .iter()
            .map(|i| &FIELDS[usize::from(*i)])
    }

    /// The same fields by ascending name.
    pub(crate) fn fields_by_name(self) -> impl ExactSizeIterator<Item = &'static Field> {
        let (from, to) = self.row().by_name;
        BY_NAME[usize::from(from)..usize::from(to)]
            .iter()
            .map(|i| &FIELDS[usize::from(*i)])
    }

    /// Own fields by ascending protobuf tag. Embedded structs that are messages of their own in
    /// protobuf appear as one field with [`Flags::INLINE`]; embedded structs that are absent from
    /// protobuf (`TypeMeta`) do not appear.
    pub fn fields_by_tag(self) -> impl ExactSizeIterator<Item = &'static Field> {
        self.tags().iter().map(|i| &FIELDS[usize::from(*i)])
    }

    fn tags(self) -> &'static [u16] {
        let (from, to) = self.row().by_tag;
        &BY_TAG[usize::from(from)..usize::from(to)]
    }

    /// The field `name`, embedded structs included.
    #[must_use]
    pub fn field(self, name: NameId) -> Option<&'static Field> {
        let (from, to) = self.row().by_name;
        let row = &BY_NAME[usize::from(from)..usize::from(to)];
        let i = row
            .binary_search_by(|i| FIELDS[usize::from(*i)].name.cmp(&name))
            .ok()?;
        Some(&FIELDS[usize::from(row[i])])
    }

    /// The own field with protobuf tag `tag`.
    #[must_use]
    pub fn field_by_tag(self, tag: u32) -> Option<&'static Field> {
        let row = self.tags();
        let i = row
            .binary_search_by(|i| u32::from(FIELDS[usize::from(*i)].tag).cmp(&tag))
            .ok()?;
        Some(&FIELDS[usize::from(row[i])])
    }
}

/// A field of a message.
pub struct Field {
    /// The JSON name. For an embedded struct (only in `fields_by_tag`) it has no meaning.
    pub name: NameId,
    /// The protobuf tag; 0 where protobuf does not have the field.
    pub tag: u16,
    pub shape: Shape,
    pub kind: Kind,
    pub flags: Flags,
    /// Index into [`EXTRAS`], 0 for none.
    pub(crate) extra: u16,
}

impl Field {
    fn extras(&self) -> Option<&'static Extra> {
        match self.extra {
            0 => None,
            i => Some(&EXTRAS[usize::from(i) - 1]),
        }
    }

    #[must_use]
    pub fn has(&self, flag: Flags) -> bool {
        self.flags.0 & flag.0 != 0
    }

    /// Keys of a list with [`Flags::LIST_MAP`], as server-side apply uses them.
    #[must_use]
    pub fn list_keys(&self) -> &'static [NameId] {
        self.extras().map_or(&[], |e| e.list_keys)
    }

    /// The merge key of strategic merge patch. It can differ from [`Field::list_keys`].
    #[must_use]
    pub fn patch_key(&self) -> Option<NameId> {
        self.extras().and_then(|e| e.patch_key)
    }

    /// The Go type, where it has names that the kind does not tell: `v1.ResourceList`, `[]v1.IPFamily`.
    pub(crate) fn go_type(&self) -> Option<&'static str> {
        self.extras().and_then(|e| e.go_type)
    }

    /// The unconditional default, as JSON text: what upstream sets wherever Go sees the zero value, so
    /// an absent pointer, and an absent or empty string, list or number held by value (0 is unset in
    /// `Probe.periodSeconds`). A default of a message may itself be the start of further defaults.
    /// Conditional defaults are code.
    #[must_use]
    pub fn default(&self) -> Option<&'static str> {
        self.extras().and_then(|e| e.default)
    }

    /// The values that the schema allows, for documentation and OpenAPI; validation has its own
    /// lists because some fields accept more on update.
    #[must_use]
    pub fn enumeration(&self) -> &'static [&'static str] {
        self.extras().map_or(&[], |e| e.enumeration)
    }
}

/// The rare facts of a field.
pub(crate) struct Extra {
    pub(crate) list_keys: &'static [NameId],
    pub(crate) patch_key: Option<NameId>,
    pub(crate) go_type: Option<&'static str>,
    pub(crate) default: Option<&'static str>,
    pub(crate) enumeration: &'static [&'static str],
}

/// How often the kind of a field occurs in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    One,
    List,
    /// A map with string keys.
    Map,
}

/// What one element of a field is, on the wire and in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    /// fixed64 in protobuf.
    Float64,
    /// `[]byte`: base64 in JSON, [`crate::Value::Bytes`] in the tree.
    Bytes,
    /// RFC 3339 with whole seconds; a message of seconds and nanoseconds in protobuf.
    Time,
    /// RFC 3339 with six digits of fraction.
    MicroTime,
    /// A canonical quantity: string in JSON and in the tree.
    Quantity,
    /// [`crate::Value::Int`] or [`crate::Value::String`].
    IntOrString,
    /// `runtime.RawExtension`: JSON text kept as it came. Also the objects inside audit events.
    RawExtension,
    /// `meta/v1.FieldsV1`: the same, of managed fields.
    FieldsV1,
    /// `apiextensions/v1.JSON`: the same, in a CRD's schema. Also the cells of tables.
    Json,
    /// A list of strings that is a message of its own in protobuf (`Verbs`, `ExtraValue`).
    Strings,
    /// `JSONSchemaPropsOrBool`, `...OrArray`, `...OrStringArray`: a JSON union, a message in protobuf.
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrStrings,
    Message(MsgId),
}

/// A set of yes/no facts about a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u32);

impl Flags {
    /// Go holds a pointer: absent and zero are different.
    pub const POINTER: Self = Self(1);
    /// JSON `omitempty`. On a message held by value it does nothing in Go: such a field is always
    /// printed, and the generator leaves this flag out.
    pub const OMIT_EMPTY: Self = Self(1 << 1);
    /// JSON `omitzero` (only `metadata.creationTimestamp`).
    pub const OMIT_ZERO: Self = Self(1 << 2);
    /// An embedded struct that is a message of its own in protobuf.
    pub const INLINE: Self = Self(1 << 3);
    /// OpenAPI `required`.
    pub const REQUIRED: Self = Self(1 << 4);
    /// `x-kubernetes-list-type: set`, `map`, `atomic`; none of them means atomic to apply.
    pub const LIST_SET: Self = Self(1 << 5);
    pub const LIST_MAP: Self = Self(1 << 6);
    pub const LIST_ATOMIC: Self = Self(1 << 7);
    /// `x-kubernetes-map-type: atomic` on the field.
    pub const MAP_ATOMIC: Self = Self(1 << 8);
    /// Strategic merge patch strategies.
    pub const PATCH_MERGE: Self = Self(1 << 9);
    pub const PATCH_RETAIN_KEYS: Self = Self(1 << 10);
    pub const PATCH_REPLACE: Self = Self(1 << 11);
    /// The elements of the list or map are pointers in Go.
    pub const ELEMENT_POINTER: Self = Self(1 << 12);
}

/// A served resource of one group version, or one that is only stored.
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// The plural name in paths.
    pub name: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Served without `--runtime-config`.
    pub on_by_default: bool,
    /// `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`, sorted.
    pub verbs: &'static [&'static str],
    pub message: MsgId,
    /// The list message, if the resource can be listed.
    pub list: Option<MsgId>,
    /// How it is stored; none for resources that are only computed (reviews, bindings).
    pub storage: Option<Storage>,
    pub subresources: &'static [Subresource],
    pub columns: &'static [Column],
    /// Field labels that clients may select on beside `metadata.name` and `metadata.namespace`, with
    /// the stored attribute each stands for.
    pub field_labels: &'static [(&'static str, &'static str)],
    pub flags: ResourceFlags,
    pub gc: GcPolicy,
    /// Objects live that many seconds (events).
    pub ttl_seconds: Option<u32>,
    /// Dotted paths that a write to the resource itself takes from the stored object whatever the
    /// client sends, and that server-side apply therefore does not record for the client.
    pub reset_fields: &'static [&'static str],
    /// The first release that has this version of the kind (`APILifecycleIntroduced`).
    pub introduced: Release,
    /// The first that has it no more (`APILifecycleRemoved`).
    pub removed: Option<Release>,
}

impl Resource {
    /// `apps/v1`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        group_version(self.group, self.version)
    }

    /// The kind of its list: `PodList`.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    #[must_use]
    pub fn has(&self, flag: ResourceFlags) -> bool {
        self.flags.0 & flag.0 != 0
    }

    #[must_use]
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.binary_search(&verb).is_ok()
    }

    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// Joins group and version as in `apiVersion`.
#[must_use]
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Where and in which version a resource is stored.
pub struct Storage {
    /// The group and version of the stored bytes; not always the served ones (`HorizontalPodAutoscaler`
    /// v1 is stored as v2, `events.k8s.io` as core).
    pub group: &'static str,
    pub version: &'static str,
    pub message: MsgId,
    /// As JSON with one newline behind it, not as protobuf in its envelope: what upstream's extension
    /// servers keep (`CustomResourceDefinition`, as v1beta1, and `APIService`).
    pub json: bool,
    /// Under the etcd prefix, without slashes at the ends: `pods`, `services/specs`, `minions`.
    pub prefix: &'static str,
    /// As what it is stored in clusters with older servers, the oldest first.
    pub former: &'static [Former],
}

/// An older version in which a kind is stored, so that older servers can read it.
pub struct Former {
    /// The newest release that is too old for what came after.
    pub until: Release,
    pub version: &'static str,
    pub message: MsgId,
}

impl Storage {
    /// The version of the stored bytes and its message, in a cluster whose oldest server may be of a release. Upstream:
    /// `emulatedStorageVersion` of `apiserver/pkg/server/storage/resource_encoding_config.go`.
    #[must_use]
    pub fn beside(&self, least: Release) -> (&'static str, MsgId) {
        let former = self.former.iter().find(|former| least <= former.until);
        former.map_or((self.version, self.message), |f| (f.version, f.message))
    }
}

pub struct Subresource {
    /// `status`, `scale`, `log`, ...
    pub name: &'static str,
    /// Group, version and kind of its body. Discovery shows group and version only where they differ
    /// from the resource's.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// The message of its body, where it has one.
    pub message: Option<MsgId>,
    pub verbs: &'static [&'static str],
    /// As [`Resource::reset_fields`], for writes to the subresource. The two subresources of pods that
    /// keep some fields instead (`ephemeralcontainers`, `resize`) have none here.
    pub reset_fields: &'static [&'static str],
}

/// A column of the table form.
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` or empty.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// A set of yes/no facts about a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceFlags(pub u32);

impl ResourceFlags {
    /// PUT of a name that does not exist creates it.
    pub const CREATE_ON_UPDATE: Self = Self(1);
    /// PUT without a resource version overwrites.
    pub const UNCONDITIONAL_UPDATE: Self = Self(1 << 1);
    /// Deletion takes a grace period (pods).
    pub const GRACEFUL: Self = Self(1 << 2);
    /// DELETE answers with the object instead of a `Status`.
    pub const RETURN_DELETED: Self = Self(1 << 3);
}

/// What happens to dependents when a client asks for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GcPolicy {
    Background,
    Orphan,
    /// Events: they are never owned, finalizers of the collector are not added.
    Unsupported,
}

/// Every resource, sorted by group, version and name.
#[must_use]
pub fn resources() -> &'static [Resource] {
    RESOURCES
}

/// The resource `name` (plural) of a group version.
#[must_use]
pub fn resource(group: &str, version: &str, name: &str) -> Option<&'static Resource> {
    let wanted = (group, version, name);
    let at = RESOURCES.binary_search_by(|r| (r.group, r.version, r.name).cmp(&wanted));
    at.ok().map(|i| &RESOURCES[i])
}

/// Every message, sorted by name.
pub fn messages() -> impl ExactSizeIterator<Item = MsgId> {
    (0..u16::try_from(MESSAGES.len()).expect("ids are 16 bits wide")).map(MsgId)
}

/// The message of a kind, list kinds included. Option kinds and `WatchEvent` belong to every group
/// version, as upstream registers them, those of custom resources included.
#[must_use]
pub fn message_of(group: &str, version: &str, kind: &str) -> Option<MsgId> {
    let find = |wanted| {
        KINDS
            .binary_search_by(|(g, v, k, _)| (*g, *v, *k).cmp(&wanted))
            .ok()
    };
    let i = find((group, version, kind)).or_else(|| find(("*", "*", kind)))?;
    Some(KINDS[i].3)
}

/// Every group version that has kinds of its own, served or not, in order; the core group is first.
#[must_use]
pub fn versions_of_kinds() -> Vec<(&'static str, &'static str)> {
    let all = KINDS.iter().map(|(group, version, ..)| (*group, *version));
    let mut all: Vec<_> = all.filter(|of| *of != ("*", "*")).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The rules of declarative validation, as the text that `hack/catalogue` writes: its head says how to
/// read it. The API server makes a tree of them.
#[must_use]
pub fn validations() -> &'static str {
    include_str!("../catalogue/validations.txt")
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));
