//! Values as JSON, for what is made of an expression's result: objects to apply, values of patches.
//! As `dynamic.ObjectVal` and cel-go's conversion to `structpb.Value` have it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::{Map as TreeMap, Value as Tree};

use super::{Map, Value, print};
use crate::error::Error;

impl Value<'_> {
    /// The value as JSON. Bytes become base64, times and durations text; what only expressions know
    /// (quantities, addresses, types) is no JSON.
    ///
    /// # Errors
    /// If it is none, or has keys that are no strings.
    pub fn to_tree(&self) -> Result<Tree, Error> {
        Ok(match self {
            Self::Null | Self::Optional(None) => Tree::Null,
            Self::Bool(b) => Tree::Bool(*b),
            Self::Int(i) => Tree::Int(*i),
            Self::Uint(u) => unsigned(*u),
            Self::Double(d) => Tree::Float(*d),
            Self::String(text) => Tree::from(&**text),
            Self::Bytes(bytes) => Tree::from(STANDARD.encode(&**bytes)),
            Self::Duration(nanos) => Tree::from(print::seconds(*nanos)),
            Self::Timestamp(time) => Tree::from(time.to_string()),
            Self::List(list) => {
                let items = list.iter().map(|item| item?.to_tree());
                Tree::List(items.collect::<Result<_, _>>()?)
            }
            Self::Map(map) => map_tree(map)?,
            Self::Optional(Some(of)) => of.to_tree()?,
            Self::Object(object) => {
                let mut out = TreeMap::new();
                for (name, value) in object.fields() {
                    out.insert(name, value.to_tree()?);
                }
                Tree::Map(out)
            }
            Self::Preserved(tree) => (*tree).clone(),
            Self::Type(_) | Self::Opaque(_) => {
                let message = format!("unsupported type: {}", self.type_name());
                return Err(Error::new(message));
            }
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "JSON has no such whole numbers")]
fn unsigned(u: u64) -> Tree {
    i64::try_from(u).map_or(Tree::Float(u as f64), Tree::Int)
}

fn map_tree(map: &Map<'_>) -> Result<Tree, Error> {
    if let Map::Tree(nodes) = map {
        return Ok(Tree::Map((*nodes).clone()));
    }
    let mut out = TreeMap::new();
    for key in map.keys() {
        let Some(name) = key.as_str() else {
            let message = format!(
                "map key \"{}\" is of type {}, not string",
                print::brief(&key),
                key.type_name()
            );
            return Err(Error::new(message));
        };
        if let Some(value) = map.get(name) {
            out.insert(name, value?.to_tree()?);
        }
    }
    Ok(Tree::Map(out))
}

#[cfg(test)]
mod tests {
    use crate::{Environment, PER_CALL_LIMIT, Version};

    fn json(expression: &str) -> Result<String, String> {
        let environment = Environment::new(Version::DEFAULT).with_patches();
        let program = environment.compile(expression).expect("it compiles");
        let value = program
            .evaluate(&(), PER_CALL_LIMIT)
            .outcome
            .expect("it has a value");
        let tree = value.to_tree().map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        proto::codec::json::write(&tree, &mut out);
        Ok(String::from_utf8(out).expect("JSON is UTF-8"))
    }

    #[test]
    fn values_become_json() {
        for (expression, wanted) in [
            ("null", "null"),
            ("[dyn(1), dyn(2u), dyn(1.5), dyn(true)]", "[1,2,1.5,true]"),
            ("{'a': {'b': ['c']}}", r#"{"a":{"b":["c"]}}"#),
            ("b'abc'", r#""YWJj""#),
            ("duration('90s')", r#""90s""#),
            (
                "timestamp('2026-01-01T00:00:00Z')",
                r#""2026-01-01T00:00:00Z""#,
            ),
            (
                "Object{spec: Object.spec{replicas: 1}}",
                r#"{"spec":{"replicas":1}}"#,
            ),
            ("[1] + [2]", "[1,2]"),
            ("optional.of('a')", r#""a""#),
        ] {
            assert_eq!(json(expression).as_deref(), Ok(wanted), "{expression}");
        }
        for (expression, why) in [
            ("{1: 'a'}", "map key \"1\" is of type int, not string"),
            ("quantity('1')", "unsupported type: kubernetes.Quantity"),
        ] {
            assert_eq!(json(expression).unwrap_err(), why, "{expression}");
        }
    }
}
