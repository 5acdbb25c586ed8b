//! Types of expressions.

use std::fmt;
use std::sync::Arc;

/// The type of an expression, as the checker knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// Of what could not be typed; there is an issue for it.
    Error,
    /// Known at run time only.
    Dyn,
    /// A message of a type known at run time only; behaves like [`Type::Dyn`].
    Any,
    Null,
    Bool,
    Bytes,
    Double,
    Duration,
    Int,
    String,
    Timestamp,
    Uint,
    List(Arc<Type>),
    /// Types of the keys and of the values.
    Map(Arc<(Type, Type)>),
    /// A named type with parameters that only functions look into: `optional_type(int)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// An object, by the name under which the environment knows its fields.
    Struct(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A type parameter of a function's declaration.
    Param(Arc<str>),
    /// A type that the checker has still to find out.
    Var(u32),
}

impl Type {
    #[must_use]
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([of]))
    }

    #[must_use]
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(name.into(), Arc::new([]))
    }

    #[must_use]
    pub fn object(name: &str) -> Self {
        Self::Struct(name.into())
    }

    pub(crate) fn of_type(of: Self) -> Self {
        Self::Type(Some(Arc::new(of)))
    }

    pub(crate) fn param(name: &str) -> Self {
        Self::Param(name.into())
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        self.is_dyn() || matches!(self, Self::Error)
    }

    /// What an optional holds.
    pub(crate) fn unwrap_optional(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    pub(crate) fn params(&self) -> Vec<&Self> {
        match self {
            Self::List(of) => vec![of],
            Self::Map(of) => vec![&of.0, &of.1],
            Self::Opaque(_, params) => params.iter().collect(),
            Self::Type(Some(of)) => vec![of],
            _ => Vec::new(),
        }
    }

    /// The name that `type(x)` prints and that decides whether a value is of a type.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Error => "error",
            Self::Dyn | Self::Var(_) => "dyn",
            Self::Any => "google.protobuf.Any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Double => "double",
            Self::Duration => "google.protobuf.Duration",
            Self::Int => "int",
            Self::String => "string",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Uint => "uint",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Opaque(name, _) | Self::Struct(name) | Self::Param(name) => name,
            Self::Type(_) => "type",
        }
    }

    /// Equal but for the names of type parameters.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Param(_) | Self::Var(_), Self::Param(_) | Self::Var(_)) => true,
            (Self::List(a), Self::List(b)) => a.is_equivalent(b),
            (Self::Map(a), Self::Map(b)) => a.0.is_equivalent(&b.0) && a.1.is_equivalent(&b.1),
            (Self::Opaque(a, p), Self::Opaque(b, q)) => {
                a == b && p.len() == q.len() && p.iter().zip(&**q).all(|(a, b)| a.is_equivalent(b))
            }
            (Self::Type(Some(a)), Self::Type(Some(b))) => a.is_equivalent(b),
            (a, b) => a == b,
        }
    }
}

/// The name of the type of optionals.
pub(crate) const OPTIONAL: &str = "optional_type";

/// As upstream's Kubernetes code prints a type ("must evaluate to bool but got list(int)"): cel-go's
/// `Type.String`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param(name) => return write!(f, "<{name}>"),
            Self::Var(n) => return write!(f, "<_var{n}>"),
            _ => f.write_str(self.name())?,
        }
        parameters(f, &self.params(), |f, p| write!(f, "{p}"))
    }
}

/// As the checker prints a type in its errors: cel-go's `checker.FormatCELType`.
pub(crate) struct InError<'a>(pub(crate) &'a Type);

impl fmt::Display for InError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Type::Any => f.write_str("any"),
            Type::Duration => f.write_str("duration"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Var(n) => write!(f, "_var{n}"),
            of => {
                f.write_str(of.name())?;
                parameters(f, &of.params(), |f, p| write!(f, "{}", InError(p)))
            }
        }
    }
}

fn parameters(
    f: &mut fmt::Formatter<'_>,
    params: &[&Type],
    print: fn(&mut fmt::Formatter<'_>, &Type) -> fmt::Result,
) -> fmt::Result {
    if params.is_empty() {
        return Ok(());
    }
    f.write_str("(")?;
    for (i, param) in params.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        print(f, param)?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_name_in_errors_and_another_at_run_time() {
        let of = Type::map(Type::String, Type::optional(Type::Duration));
        assert_eq!(
            InError(&of).to_string(),
            "map(string, optional_type(duration))"
        );
        assert_eq!(
            of.to_string(),
            "map(string, optional_type(google.protobuf.Duration))"
        );
        assert_eq!(InError(&Type::Null).to_string(), "null");
        assert_eq!(Type::Null.to_string(), "null_type");
    }
}
