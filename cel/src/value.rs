//! Values at run time. They borrow from the objects that an expression reads: nothing is copied but
//! what the expression makes itself.

mod compare;
mod convert;
mod keyed;
pub(crate) mod kube;
mod list;
mod map;
mod nest;
mod print;
mod read;
mod time;
mod tree;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use proto::Value as Tree;

pub(crate) use compare::{compare, equal};
pub(crate) use convert::{convert, double_to_int, to_text};
pub(crate) use kube::{AUTHORIZER, QUANTITY, RESOURCE_CHECK, SEMVER};
pub(crate) use kube::{Asked, Checked, Cidr, NamedFormat, Semver, Url, parse_ip};
pub use kube::{Authorizer, Check, Decision, Opaque};
pub(crate) use list::LONGEST as LONGEST_LIST;
pub use list::List;
pub use map::{Fields, Map};
pub(crate) use map::{Key, shorten};
pub(crate) use nest::Made;
pub(crate) use print::{brief, double, quote};
pub use time::Timestamp;
pub(crate) use time::{MAX_UNIX, MIN_UNIX, Zone};

use crate::error::Error;
use crate::schema::Schema;
use crate::types::Type;

/// What evaluation gives: a value, or why there is none.
pub type Outcome<'a> = Result<Value<'a>, Error>;

/// A value of an expression.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Octets<'a>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    Type(Type),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Made<Value<'a>>>>),
    /// Made by `Object{...}` or `JSONPatch{...}`.
    Object(Arc<Object<'a>>),
    /// Of the types that Kubernetes adds.
    Opaque(Arc<Opaque<'a>>),
    /// A node that a schema says nothing about.
    Preserved(&'a Tree),
}

/// A string, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// Bytes, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Octets<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Deref for Octets<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// An object that an expression made.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) fields: Made<BTreeMap<Arc<str>, Value<'a>>>,
}

impl<'a> Object<'a> {
    /// The type's name: `Object`, `Object.spec`, `JSONPatch`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value<'a>> {
        self.fields.get(field)
    }

    /// Fields by name.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Value<'a> {
    /// A string.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    pub(crate) fn owned(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub(crate) fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(Octets::Shared(bytes.into()))
    }

    pub(crate) fn list(values: Vec<Value<'a>>) -> Self {
        Self::List(List::Owned(Arc::new(Made::new(values))))
    }

    pub(crate) fn map(entries: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Self::Map(Map::Owned(Arc::new(Made::new(entries))))
    }

    pub(crate) fn texts<T: Into<Arc<str>>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::list(texts.into_iter().map(Value::owned).collect())
    }

    pub(crate) fn opaque(value: Opaque<'a>) -> Self {
        Self::Opaque(Arc::new(value))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(Made::new(value))))
    }

    /// A node of an object, read as JSON: bytes are base64 text, times and quantities are text. This is
    /// how `object`, `params`, `request` and their like are given to policies (upstream's
    /// `SchemalessTypedToVal`).
    #[must_use]
    pub fn of(tree: &'a Tree) -> Self {
        read::plain(tree)
    }

    /// A node of an object, read as its schema says. What does not fit the schema becomes an error
    /// where it is used.
    ///
    /// # Errors
    /// If the node itself does not fit.
    pub fn typed(tree: &'a Tree, schema: &'a Schema) -> Outcome<'a> {
        read::typed(tree, schema)
    }

    /// A map whose values are computed when they are asked for.
    #[must_use]
    pub fn lazy(fields: &'a dyn Fields) -> Self {
        Self::Map(Map::Lazy(fields))
    }

    /// What `authorizer` is.
    #[must_use]
    pub fn authorizer(authorizer: &'a dyn Authorizer) -> Self {
        Self::opaque(Opaque::Authorizer(Asked {
            authorizer,
            service_account: None,
        }))
    }

    /// What `authorizer.requestResource` is: a check of this resource that lacks the verb.
    #[must_use]
    pub fn resource_check(authorizer: &'a dyn Authorizer, check: Check) -> Self {
        Self::opaque(Opaque::ResourceCheck(Checked { authorizer, check }))
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The type, as `type(x)` gives it.
    #[must_use]
    pub fn ty(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Type(_) => Type::Type(None),
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.ty(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Object(object) => Type::Struct(object.name.clone()),
            Self::Opaque(opaque) => opaque.ty(),
            Self::Preserved(_) => Type::opaque("unknown"),
        }
    }

    /// The name of the type. The same as that of [`Value::ty`], without making one.
    pub(crate) fn type_name(&self) -> &str {
        match self {
            Self::Null => Type::Null.name(),
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => Type::Duration.name(),
            Self::Timestamp(_) => Type::Timestamp.name(),
            Self::Type(_) => "type",
            Self::List(_) => "list",
            Self::Map(map) => map.type_name(),
            Self::Optional(_) => crate::types::OPTIONAL,
            Self::Object(object) => &object.name,
            Self::Opaque(opaque) => opaque.type_name(),
            Self::Preserved(_) => "unknown",
        }
    }

    /// cel-go's name for the Go type of a value.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            Self::Null => "types.Null",
            Self::Bool(_) => "types.Bool",
            Self::Int(_) => "types.Int",
            Self::Uint(_) => "types.Uint",
            Self::Double(_) => "types.Double",
            Self::String(_) => "types.String",
            Self::Bytes(_) => "types.Bytes",
            Self::Duration(_) => "types.Duration",
            Self::Timestamp(_) => "types.Timestamp",
            Self::Type(_) => "*types.Type",
            Self::Optional(_) => "*types.Optional",
            Self::List(List::Owned(_)) => "*types.baseList",
            Self::List(List::Joined(_)) => "*types.concatList",
            Self::List(List::Tree(_)) => "[]interface {}",
            Self::Map(Map::Owned(_)) => "*types.baseMap",
            Self::Map(Map::Tree(_)) => "map[string]interface {}",
            _ => "ref.Val",
        }
    }

    /// The number of code points, bytes, elements or entries, of what has a size.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Opaque(opaque) => opaque.size()?,
            _ => return None,
        };
        u64::try_from(size).ok()
    }

    /// Whether a function that wants `ty` takes this value (cel-go's `IsAssignableRuntimeType`): by
    /// name; of lists and maps the first entry is looked at.
    pub(crate) fn is_of(&self, ty: &Type) -> bool {
        if ty.is_dyn() || matches!(ty, Type::Param(_) | Type::Var(_)) {
            return true;
        }
        if ty.name() != self.type_name() {
            return false;
        }
        match (ty, self) {
            (Type::List(of), Self::List(list)) => match list.get(0) {
                None => true,
                Some(first) => first.is_ok_and(|first| first.is_of(of)),
            },
            (Type::Map(of), Self::Map(map)) => match map.first() {
                None => true,
                Some(Ok((key, value))) => key.is_of(&of.0) && value.is_of(&of.1),
                Some(Err(_)) => false,
            },
            _ => true,
        }
    }

    /// What counts as no value to `optional.ofNonZeroValue`.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(i) => *i == 0,
            Self::Uint(u) => *u == 0,
            Self::Double(d) => *d == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(nanos) => *nanos == 0,
            Self::Timestamp(time) => time.is_go_zero(),
            Self::List(list) => list.is_owned() && list.is_empty(),
            Self::Map(map) => map.is_owned() && map.is_empty(),
            Self::Object(object) => &*object.name != "JSONPatch" && object.fields.is_empty(),
            Self::Type(_) | Self::Optional(_) | Self::Opaque(_) | Self::Preserved(_) => false,
        }
    }
}
