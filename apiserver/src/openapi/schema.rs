//! Definitions: what the catalogue knows of a message, as a schema of OpenAPI v2 or v3.
//!
//! Descriptions are left out; everything that programs look at is there: types, formats, required
//! fields, defaults, allowed values, kinds, and how lists and maps are merged.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use proto::MsgId;
use proto::catalogue::{self, Field, Flags, Kind, Shape, message_of};
use serde_json::{Map, Value, json};

/// Which OpenAPI a document speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// What references to definitions begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    pub(super) fn reference(self, definition: &str) -> Value {
        json!({"$ref": format!("{}{definition}", self.prefix())})
    }
}

/// Definitions that have no message of their own in the catalogue.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// What the unions of a CRD's schema are called, behind the package of its version.
const SCHEMAS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.";

/// The fields of `/version` that are always there, as Go has them.
const OF_VERSION: &[&str] = &[
    "major",
    "minor",
    "gitVersion",
    "gitCommit",
    "gitTreeState",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
];

fn version_info(dialect: Dialect) -> Value {
    let mut properties = Map::new();
    for field in OF_VERSION {
        let always = match dialect {
            Dialect::V2 => json!({"type": "string"}),
            Dialect::V3 => json!({"type": "string", "default": ""}),
        };
        properties.insert((*field).to_owned(), always);
    }
    for of in ["emulation", "minCompatibility"] {
        for part in ["Major", "Minor"] {
            properties.insert(format!("{of}{part}"), json!({"type": "string"}));
        }
    }
    json!({"type": "object", "properties": properties, "required": OF_VERSION})
}

/// The definition behind a name, if it is one of those without a message.
fn leaf(name: &str, dialect: Dialect) -> Option<Value> {
    let v3 = dialect == Dialect::V3;
    Some(match name {
        VERSION_INFO => version_info(dialect),
        PATCH | FIELDS | RAW => json!({"type": "object"}),
        TIME | MICRO_TIME => json!({"type": "string", "format": "date-time"}),
        QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        QUANTITY => json!({"type": "string"}),
        INT_OR_STRING if v3 => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        INT_OR_STRING => json!({"type": "string", "format": "int-or-string"}),
        other if other.starts_with(SCHEMAS) => {
            let (_, kind) = other.rsplit_once('.')?;
            let union = matches!(
                kind,
                "JSON"
                    | "JSONSchemaPropsOrArray"
                    | "JSONSchemaPropsOrBool"
                    | "JSONSchemaPropsOrStringArray"
            );
            return union.then(|| json!({}));
        }
        _ => return None,
    })
}

/// The definition of a name. `versions` are the group versions whose documents show kinds that belong
/// to all of them.
pub(super) fn definition(name: &str, dialect: Dialect, versions: &[(&str, &str)]) -> Option<Value> {
    if let Some(leaf) = leaf(name, dialect) {
        return Some(leaf);
    }
    by_definition(name).map(|message| of_message(message, dialect, versions))
}

/// The message whose definition has that name.
fn by_definition(name: &str) -> Option<MsgId> {
    static BY_NAME: OnceLock<Vec<(&'static str, MsgId)>> = OnceLock::new();
    let all = BY_NAME.get_or_init(|| {
        let mut all: Vec<_> = catalogue::messages().map(|m| (m.openapi(), m)).collect();
        all.sort_by_key(|(name, _)| *name);
        all
    });
    let at = all.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    Some(all[at].1)
}

fn of_message(message: MsgId, dialect: Dialect, versions: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in message.fields() {
        properties.insert(
            field.name.text().to_owned(),
            property(message, field, dialect),
        );
        if field.has(Flags::REQUIRED) {
            required.push(field.name.text());
        }
    }
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    if !properties.is_empty() {
        schema.insert("properties".into(), Value::Object(properties));
    }
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    if let Some(union) = union(message) {
        schema.insert("x-kubernetes-unions".into(), union);
    }
    if message.is_atomic() {
        schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    let kinds = kinds(message, versions);
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".into(), json!(kinds));
    }
    Value::Object(schema)
}

/// Types of which one of several fields is set: the field that says which one, and those.
type Union = (&'static str, &'static str, &'static [&'static str]);

const UNIONS: &[Union] = &[
    ("core.v1.AppArmorProfile", "type", &["localhostProfile"]),
    ("core.v1.PodSchedulingGroup", "", &["podGroupName"]),
    ("core.v1.SeccompProfile", "type", &["localhostProfile"]),
    ("flowcontrol.v1.LimitResponse", "type", &["queuing"]),
    (
        "flowcontrol.v1.PriorityLevelConfigurationSpec",
        "type",
        &["exempt", "limited"],
    ),
    (
        "flowcontrol.v1.Subject",
        "kind",
        &["group", "serviceAccount", "user"],
    ),
    ("lifecycle.v1alpha1.EvictionRequestTarget", "", &["pod"]),
    ("lifecycle.v1alpha1.EvictionTarget", "", &["pod"]),
    (
        "scheduling.v1alpha3.CompositeDisruptionMode",
        "",
        &["all", "single"],
    ),
    (
        "scheduling.v1alpha3.CompositePodGroupSchedulingPolicy",
        "",
        &["basic", "gang"],
    ),
    ("scheduling.v1alpha3.DisruptionMode", "", &["all", "single"]),
    (
        "scheduling.v1alpha3.PodGroupSchedulingPolicy",
        "",
        &["basic", "gang"],
    ),
    (
        "scheduling.v1alpha3.WorkloadPodGroupDisruptionMode",
        "",
        &["all", "single"],
    ),
    (
        "scheduling.v1alpha3.WorkloadPodGroupSchedulingPolicy",
        "",
        &["basic", "gang"],
    ),
    (
        "scheduling.v1beta1.CompositeDisruptionMode",
        "",
        &["all", "single"],
    ),
    (
        "scheduling.v1beta1.CompositePodGroupSchedulingPolicy",
        "",
        &["basic", "gang"],
    ),
    ("scheduling.v1beta1.DisruptionMode", "", &["all", "single"]),
    (
        "scheduling.v1beta1.PodGroupSchedulingPolicy",
        "",
        &["basic", "gang"],
    ),
];

fn union(message: MsgId) -> Option<Value> {
    let name = message.openapi().strip_prefix("io.k8s.api.")?;
    let (_, discriminator, fields) = UNIONS.iter().find(|(of, ..)| *of == name)?;
    let fields = fields
        .iter()
        .map(|field| ((*field).to_owned(), json!(super::paths::capital(field))));
    let mut union = Map::new();
    if !discriminator.is_empty() {
        union.insert("discriminator".into(), json!(discriminator));
    }
    union.insert(
        "fields-to-discriminateBy".into(),
        Value::Object(fields.collect()),
    );
    Some(json!([union]))
}

/// Maps that the types say are merged key by key, as maps are anyway.
const GRANULAR: &[(&str, &str)] = &[
    ("PersistentVolumeClaimStatus", "allocatedResourceStatuses"),
    ("PersistentVolumeSpec", "claimRef"),
];

/// The kinds that a message is. Those that belong to every group version are shown for `versions` only.
fn kinds(message: MsgId, versions: &[(&str, &str)]) -> Vec<Value> {
    static ALL: OnceLock<Vec<(&'static str, &'static str)>> = OnceLock::new();
    let kind = message.name().rsplit('.').next().unwrap_or_default();
    let versions = if matches!(kind, "DeleteOptions" | "WatchEvent") {
        versions
    } else {
        ALL.get_or_init(|| {
            let own = catalogue::resources().iter().map(|r| (r.group, r.version));
            // The bodies of subresources may be of versions that serve nothing themselves.
            let below = catalogue::resources().iter().flat_map(|r| r.subresources);
            let mut all: Vec<_> = own.chain(below.map(|s| (s.group, s.version))).collect();
            all.sort_unstable();
            all.dedup();
            all
        })
    };
    versions
        .iter()
        .filter(|(group, version)| message_of(group, version, kind) == Some(message))
        .map(|(group, version)| json!({"group": group, "version": version, "kind": kind}))
        .collect()
}

fn property(of: MsgId, field: &Field, dialect: Dialect) -> Value {
    let member = || {
        let mut member = element(of, field.kind, dialect);
        if !field.enumeration().is_empty() {
            member["enum"] = json!(field.enumeration());
        }
        member
    };
    let mut schema = match field.shape {
        Shape::One => one(of, field, dialect),
        Shape::List => {
            let items = member();
            Map::from_iter([("type".into(), json!("array")), ("items".into(), items)])
        }
        Shape::Map => {
            let values = member();
            Map::from_iter([
                ("type".into(), json!("object")),
                ("additionalProperties".into(), values),
            ])
        }
    };
    extensions(field, &mut schema);
    let kind = of.name().rsplit('.').next().unwrap_or_default();
    if GRANULAR.contains(&(kind, field.name.text())) {
        schema.insert("x-kubernetes-map-type".into(), json!("granular"));
    }
    Value::Object(schema)
}

/// A field that holds one element. Only v3 shows defaults.
fn one(of: MsgId, field: &Field, dialect: Dialect) -> Map<String, Value> {
    let mut schema = match element(of, field.kind, dialect) {
        reference if dialect == Dialect::V3 && reference.get("$ref").is_some() => {
            Map::from_iter([("allOf".into(), json!([reference]))])
        }
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    if !field.enumeration().is_empty() {
        schema.insert("enum".into(), json!(field.enumeration()));
    }
    if dialect == Dialect::V3
        && let Some(default) = default(of, field)
    {
        schema.insert("default".into(), default);
    }
    schema
}

/// Defaults that are part of the types. Those that upstream's defaulting functions set, which the
/// catalogue has too, are not part of its schemas.
const DEFAULTS: &[(&str, &str)] = &[
    ("AzureDiskVolumeSource", "cachingMode"),
    ("AzureDiskVolumeSource", "fsType"),
    ("AzureDiskVolumeSource", "kind"),
    ("AzureDiskVolumeSource", "readOnly"),
    ("CompositePodGroupSpec", "disruptionMode"),
    ("ConfigMapEnvSource", "name"),
    ("ConfigMapKeySelector", "name"),
    ("ConfigMapProjection", "name"),
    ("ConfigMapVolumeSource", "name"),
    ("ContainerPort", "protocol"),
    ("DeviceToleration", "operator"),
    ("FileKeySelector", "optional"),
    ("GRPCAction", "service"),
    ("ISCSIPersistentVolumeSource", "iscsiInterface"),
    ("ISCSIVolumeSource", "iscsiInterface"),
    ("LocalObjectReference", "name"),
    ("PodCertificateRequestSpec", "maxExpirationSeconds"),
    ("PodGroupSpec", "disruptionMode"),
    ("RBDPersistentVolumeSource", "keyring"),
    ("RBDPersistentVolumeSource", "pool"),
    ("RBDPersistentVolumeSource", "user"),
    ("RBDVolumeSource", "keyring"),
    ("RBDVolumeSource", "pool"),
    ("RBDVolumeSource", "user"),
    ("ReplicationControllerSpec", "minReadySeconds"),
    ("ReplicationControllerSpec", "replicas"),
    ("ResourcePoolStatusRequestSpec", "limit"),
    ("ScaleIOPersistentVolumeSource", "fsType"),
    ("ScaleIOPersistentVolumeSource", "storageMode"),
    ("ScaleIOVolumeSource", "fsType"),
    ("ScaleIOVolumeSource", "storageMode"),
    ("ScaleSpec", "replicas"),
    ("SecretEnvSource", "name"),
    ("SecretKeySelector", "name"),
    ("SecretProjection", "name"),
    ("ServicePort", "protocol"),
];

/// What Go sees where nothing is given, if it must be something.
fn default(of: MsgId, field: &Field) -> Option<Value> {
    let kind = of.name().rsplit('.').next().unwrap_or_default();
    if DEFAULTS.contains(&(kind, field.name.text())) {
        return match field.default() {
            Some(text) => serde_json::from_str(text).ok(),
            None => zero(field.kind),
        };
    }
    if field.has(Flags::POINTER) {
        return None;
    }
    if let Kind::Message(_) = field.kind {
        return Some(json!({}));
    }
    if field.has(Flags::OMIT_EMPTY) || field.has(Flags::OMIT_ZERO) {
        return None;
    }
    zero(field.kind)
}

/// Go's zero value, of those that schemas show.
fn zero(kind: Kind) -> Option<Value> {
    match kind {
        Kind::String => Some(json!("")),
        Kind::Bool => Some(json!(false)),
        Kind::Int32 | Kind::Int64 | Kind::Float64 => Some(json!(0)),
        _ => None,
    }
}

/// One element of a field.
fn element(of: MsgId, kind: Kind, dialect: Dialect) -> Value {
    let reference = |name: &str| dialect.reference(name);
    // The package that the message itself is of.
    let beside = |name: &str| {
        let package = of
            .openapi()
            .rsplit_once('.')
            .map_or("", |(package, _)| package);
        dialect.reference(&format!("{package}.{name}"))
    };
    match kind {
        Kind::String => json!({"type": "string"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Float64 => json!({"type": "number", "format": "double"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Strings => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Time => reference(TIME),
        Kind::MicroTime => reference(MICRO_TIME),
        Kind::Quantity => reference(QUANTITY),
        Kind::IntOrString => reference(INT_OR_STRING),
        Kind::RawExtension => reference(RAW),
        Kind::FieldsV1 => reference(FIELDS),
        Kind::Json => beside("JSON"),
        Kind::SchemaOrBool => beside("JSONSchemaPropsOrBool"),
        Kind::SchemaOrArray => beside("JSONSchemaPropsOrArray"),
        Kind::SchemaOrStrings => beside("JSONSchemaPropsOrStringArray"),
        Kind::Message(message) => reference(message.openapi()),
    }
}

/// How the field is merged.
fn extensions(field: &Field, schema: &mut Map<String, Value>) {
    let list = [
        (Flags::LIST_SET, "set"),
        (Flags::LIST_MAP, "map"),
        (Flags::LIST_ATOMIC, "atomic"),
    ];
    if let Some((_, name)) = list.iter().find(|(flag, _)| field.has(*flag)) {
        schema.insert("x-kubernetes-list-type".into(), json!(name));
    }
    if !field.list_keys().is_empty() {
        let keys: Vec<&str> = field.list_keys().iter().map(|k| k.text()).collect();
        schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
    }
    if field.has(Flags::MAP_ATOMIC) {
        schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    if let Some(key) = field.patch_key() {
        schema.insert("x-kubernetes-patch-merge-key".into(), json!(key.text()));
    }
    let strategies: Vec<&str> = [
        (Flags::PATCH_MERGE, "merge"),
        (Flags::PATCH_RETAIN_KEYS, "retainKeys"),
        (Flags::PATCH_REPLACE, "replace"),
    ]
    .iter()
    .filter(|(flag, _)| field.has(*flag))
    .map(|(_, name)| *name)
    .collect();
    if !strategies.is_empty() {
        schema.insert(
            "x-kubernetes-patch-strategy".into(),
            json!(strategies.join(",")),
        );
    }
}

/// Every definition that a document refers to, with those that they refer to in turn.
pub(super) fn reachable(
    from: &Value,
    dialect: Dialect,
    versions: &[(&str, &str)],
) -> Map<String, Value> {
    let mut found = Map::new();
    let mut open = BTreeSet::new();
    references(from, dialect, &mut open);
    while let Some(name) = open.pop_first() {
        if found.contains_key(&name) {
            continue;
        }
        let schema = definition(&name, dialect, versions).unwrap_or_else(|| json!({}));
        references(&schema, dialect, &mut open);
        found.insert(name, schema);
    }
    found
}

fn references(value: &Value, dialect: Dialect, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                match below {
                    Value::String(text) if key == "$ref" => {
                        into.extend(text.strip_prefix(dialect.prefix()).map(str::to_owned));
                    }
                    other => references(other, dialect, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, dialect, into)),
        _ => {}
    }
}
