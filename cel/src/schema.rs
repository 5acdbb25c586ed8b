//! What is known of an object: names and types of its fields, and how large they can be.
//!
//! One description serves the checker (types), evaluation (how a field's value is read) and the
//! estimate of costs (how often a rule may run, how long a string may be). It is made from a
//! structural or an OpenAPI schema ([`Schema::from_openapi`]; upstream's
//! `apiserver/pkg/cel/common/schemas.go`), from a message of the catalogue ([`Schema::from_message`]),
//! or by hand ([`Schema::object`]).

mod catalogue;
mod openapi;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Type;
pub use openapi::Root;

/// The largest request that the estimates reckon with, in bytes (`MaxRequestSizeBytes` of
/// `apiserver/pkg/apis/cel/config.go`).
pub(crate) const MAX_REQUEST: i64 = 3 * 1024 * 1024;

/// No limit is known (upstream's `noMaxLength`, or -1).
pub(crate) const UNLIMITED: i64 = -1;

/// A type, with what schemas say beyond it.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) ty: Type,
    pub(crate) shape: Shape,
    /// Null is a value of it.
    pub(crate) nullable: bool,
    /// The largest number of characters, elements or entries; 0 of what has no size.
    pub(crate) max_elements: i64,
    /// The fewest bytes that it takes as JSON.
    pub(crate) min_size: i64,
}

/// How a value of the tree is read.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// By its own JSON type.
    Plain,
    IntOrString,
    Bool,
    Int,
    Double,
    String,
    /// A string in base64.
    Bytes,
    Duration,
    Date,
    DateTime,
    List {
        item: Arc<Schema>,
        kind: ListKind,
    },
    Map {
        value: Arc<Schema>,
    },
    /// The same where keys are not of any length.
    Bounded {
        key: Arc<Schema>,
        value: Arc<Schema>,
        /// Estimates know an entry also where it is selected as a field.
        fields: bool,
    },
    Object {
        fields: Arc<Fields>,
    },
    /// Anything, kept as it came: only compared.
    Preserved,
}

/// How lists compare and merge (`x-kubernetes-list-type`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ListKind {
    Atomic,
    Set,
    /// By these fields, escaped.
    Map(Arc<[String]>),
}

/// Fields of an object by their names in JSON.
pub(crate) type Fields = BTreeMap<Box<str>, Field>;

#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The name in expressions. None: the field cannot be named, or has no type.
    pub(crate) escaped: Option<Box<str>>,
    pub(crate) schema: Arc<Schema>,
}

impl Field {
    pub(crate) fn new(name: &str, schema: Schema) -> Self {
        Self {
            escaped: crate::escape::escape(name).map(Into::into),
            schema: Arc::new(schema),
        }
    }
}

impl Schema {
    pub(crate) fn plain(ty: Type, min_size: i64) -> Self {
        Self {
            ty,
            shape: Shape::Plain,
            nullable: false,
            max_elements: 0,
            min_size,
        }
    }

    /// A scalar, or what is only known at run time; values are read by their own JSON type, as in
    /// the variables of admission.
    #[must_use]
    pub fn of(ty: Type) -> Self {
        let min_size = match ty {
            Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Struct(_) => 2,
            Type::Bool | Type::Null => 4,
            Type::Duration => 3,
            Type::Timestamp => 12,
            _ => 1,
        };
        Self::plain(ty, min_size)
    }

    /// A list of any length.
    #[must_use]
    pub fn list(item: Self) -> Self {
        let ty = Type::list(item.ty.clone());
        let shape = Shape::List {
            item: Arc::new(item),
            kind: ListKind::Atomic,
        };
        Self {
            shape,
            max_elements: UNLIMITED,
            ..Self::plain(ty, 2)
        }
    }

    /// A map from strings, of any size.
    #[must_use]
    pub fn map(value: Self) -> Self {
        let ty = Type::map(Type::String, value.ty.clone());
        let shape = Shape::Map {
            value: Arc::new(value),
        };
        Self {
            shape,
            max_elements: UNLIMITED,
            ..Self::plain(ty, 2)
        }
    }

    /// A map of at most so many entries, with what is known of its keys.
    pub(crate) fn bounded_map(key: Self, value: Self, most: i64, fields: bool) -> Self {
        let ty = Type::map(key.ty.clone(), value.ty.clone());
        let shape = Shape::Bounded {
            key: Arc::new(key),
            value: Arc::new(value),
            fields,
        };
        Self {
            shape,
            max_elements: most,
            ..Self::plain(ty, 2)
        }
    }

    /// The same, with at most so many characters or elements.
    pub(crate) fn with_most(self, max_elements: i64) -> Self {
        Self {
            max_elements,
            ..self
        }
    }

    /// An object type with this name and these fields.
    #[must_use]
    pub fn object<'a>(name: &str, fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, schema)| (name.into(), Field::new(name, schema)))
            .collect();
        Self {
            shape: Shape::Object {
                fields: Arc::new(fields),
            },
            ..Self::plain(Type::object(name), 2)
        }
    }

    /// The type of values.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The same with names for its objects, made from the path to them: `name.field`, `name.@idx`,
    /// `name.@elem`. The checker knows objects by name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let (ty, shape) = match &self.shape {
            Shape::List { item, kind } => {
                let item = item.named(&format!("{name}.@idx"));
                let ty = Type::list(item.ty.clone());
                let item = Arc::new(item);
                let kind = kind.clone();
                (ty, Shape::List { item, kind })
            }
            Shape::Map { value } => {
                let value = value.named(&format!("{name}.@elem"));
                let ty = Type::map(Type::String, value.ty.clone());
                let value = Arc::new(value);
                (ty, Shape::Map { value })
            }
            Shape::Object { fields } => {
                let own = match &self.ty {
                    Type::Struct(own) if &**own != UNNAMED => own,
                    _ => name,
                };
                let named = |field: &Field| match &field.escaped {
                    Some(escaped) => Field {
                        escaped: field.escaped.clone(),
                        schema: Arc::new(field.schema.named(&format!("{own}.{escaped}"))),
                    },
                    None => field.clone(),
                };
                let fields = fields.iter().map(|(k, f)| (k.clone(), named(f))).collect();
                let fields = Arc::new(fields);
                (Type::object(own), Shape::Object { fields })
            }
            other => (self.ty.clone(), other.clone()),
        };
        Self {
            ty,
            shape,
            ..self.clone()
        }
    }

    /// Every object in it, by the name of its type.
    pub(crate) fn collect(&self, into: &mut BTreeMap<Arc<str>, Arc<Fields>>) {
        match &self.shape {
            Shape::List { item, .. } => item.collect(into),
            Shape::Map { value } | Shape::Bounded { value, .. } => value.collect(into),
            Shape::Object { fields } => {
                if let Type::Struct(name) = &self.ty {
                    into.insert(name.clone(), fields.clone());
                }
                for field in fields.values().filter(|f| f.escaped.is_some()) {
                    field.schema.collect(into);
                }
            }
            _ => {}
        }
    }

    /// What is known of the keys of a map.
    pub(crate) fn keys(&self) -> Option<&Self> {
        static KEY: std::sync::LazyLock<Schema> =
            std::sync::LazyLock::new(|| Schema::of(Type::String));
        match &self.shape {
            Shape::Map { .. } => Some(&KEY),
            Shape::Bounded { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The field with this name in expressions.
    pub(crate) fn field(&self, escaped: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Object { fields } => field(fields, escaped).map(|f| &*f.schema),
            Shape::Bounded {
                value,
                fields: true,
                ..
            } => Some(value),
            _ => None,
        }
    }
}

/// The name of objects that have got none yet.
pub(crate) const UNNAMED: &str = "object";

/// The field with this name in expressions.
pub(crate) fn field<'a>(fields: &'a Fields, escaped: &str) -> Option<&'a Field> {
    let name = crate::escape::unescape(escaped)?;
    fields
        .get(&*name)
        .filter(|f| f.escaped.as_deref() == Some(escaped))
}
