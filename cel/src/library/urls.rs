//! URLs: `apiserver/pkg/cel/library/urls.go`.

use super::{Functions, opaque, overloads, text};
use crate::error::Error;
use crate::value::{Key, Opaque, Text, Url, Value};

pub(super) fn add(f: &mut Functions) {
    overloads!(f;
        function "url" "string_to_url" "string -> url" |a| {
            let parsed = Url::parse(text(a, 0)?).map_err(|why| {
                Error::new(format!(
                    "URL parse error during conversion from string: {why}"
                ))
            })?;
            Ok(Value::opaque(Opaque::Url(parsed)))
        };
    );
    let mut get = |name, id, body| f.method(name, id, "url -> string", body);
    get("getScheme", "url_get_scheme", |a| {
        Ok(Value::owned(of(a)?.scheme()))
    });
    get("getHost", "url_get_host", |a| {
        Ok(Value::owned(of(a)?.host()))
    });
    get("getHostname", "url_get_hostname", |a| {
        Ok(Value::owned(of(a)?.host_and_port().0))
    });
    get("getPort", "url_get_port", |a| {
        Ok(Value::owned(of(a)?.host_and_port().1))
    });
    get("getEscapedPath", "url_get_escaped_path", |a| {
        Ok(Value::owned(of(a)?.escaped_path()))
    });
    overloads!(f;
        method "getQuery" "url_get_query" "url -> map(string, list(string))" |a| {
            let query = of(a)?.query().into_iter().map(|(name, values)| {
                let key = Key::String(Text::Shared(name.into()));
                (key, Value::texts(values))
            });
            Ok(Value::map(query.collect()))
        };
        function "isURL" "is_url_string" "string -> bool"
            |a| Ok(Value::Bool(Url::check(text(a, 0)?).is_ok()));
    );
}

fn of<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, Error> {
    match opaque(args, 0)? {
        Opaque::Url(url) => Ok(url),
        _ => Err(Error::no_such_overload()),
    }
}
