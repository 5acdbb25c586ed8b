//! The options of a connection, as the object that admission sees: `PodExecOptions` and its like, read from the query as their
//! fields are called.
//!
//! Upstream: `getRequestOptions` in `apiserver/pkg/endpoints/handlers/rest.go`.

use proto::catalogue::{Field, Kind, Shape, names as n};
use proto::{MsgId, Value};
use resources::request::{Query, RequestInfo};
use resources::status::Failure;

use super::location::number;

/// Reads them.
///
/// # Errors
/// If the query has no number where there must be one, or asks for a dry run, which connections do not have.
pub(super) fn read(of: MsgId, query: &Query, info: &RequestInfo) -> Result<Value, Failure> {
    if query.get("dryRun").is_some() {
        return Err(Failure::bad_request("dryRun is not supported"));
    }
    let mut options = Value::object();
    for field in of
        .fields()
        .filter(|f| !matches!(f.name, n::KIND | n::API_VERSION))
    {
        let value = match field.name {
            n::PATH => Some(path(info).into()),
            _ => value(field, query)?,
        };
        if let Some(value) = value {
            options.set(&[field.name], value);
        }
    }
    Ok(options)
}

fn value(field: &Field, query: &Query) -> Result<Option<Value>, Failure> {
    let name = field.name.text();
    Ok(match (field.shape, field.kind) {
        (Shape::One, Kind::Bool) => query.flag(name).filter(|set| *set).map(Value::from),
        (Shape::One, _) => query.get(name).filter(|t| !t.is_empty()).map(Value::from),
        (_, Kind::Int32 | Kind::Int64) => {
            let texts = query
                .all(name)
                .flat_map(|t| t.split(','))
                .filter(|t| !t.is_empty());
            let number = |text: &str| text.parse::<i32>().map_err(|_| number(text));
            some(texts.map(number).collect::<Result<Vec<_>, _>>()?)
        }
        _ => some(query.all(name).collect::<Vec<_>>()),
    })
}

fn some<T: Into<Value>>(list: Vec<T>) -> Option<Value> {
    (!list.is_empty()).then(|| list.into())
}

/// What is behind a proxy's own path, with the slashes around it.
fn path(info: &RequestInfo) -> String {
    let rest = info.parts.get(3..).unwrap_or_default().join("/");
    let mut path = if rest.is_empty() {
        rest
    } else {
        format!("/{rest}")
    };
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use proto::catalogue::messages::core_v1;

    use super::*;

    fn options(of: MsgId, uri: &str) -> Result<String, u16> {
        let uri: Uri = uri.parse().unwrap();
        let query = Query::parse(&uri);
        let info = RequestInfo::read(&Method::GET, &uri, &query).unwrap();
        let read = read(of, &query, &info).map_err(|f| f.code())?;
        let mut json = Vec::new();
        proto::codec::json::encode(&read, of, &mut json);
        Ok(String::from_utf8(json).unwrap())
    }

    #[test]
    fn options_are_called_as_their_fields() {
        let pod = "/api/v1/namespaces/n/pods/p";
        let exec = format!("{pod}/exec?command=sh&command=-c&stdin=true&tty=false&container=c&x=y");
        assert_eq!(
            options(core_v1::POD_EXEC_OPTIONS, &exec).as_deref(),
            Ok(r#"{"stdin":true,"container":"c","command":["sh","-c"]}"#)
        );
        let forward = |ports: &str| {
            let uri = format!("{pod}/portforward?{ports}");
            options(core_v1::POD_PORT_FORWARD_OPTIONS, &uri)
        };
        assert_eq!(
            forward("ports=1,2&ports=3").as_deref(),
            Ok(r#"{"ports":[1,2,3]}"#)
        );
        assert_eq!(forward("ports=x"), Err(400));
        assert_eq!(forward("dryRun=All"), Err(400));
    }

    #[test]
    fn a_proxy_is_told_by_its_path() {
        let proxy = |rest: &str| {
            let uri = format!("/api/v1/namespaces/n/pods/p/proxy{rest}");
            options(core_v1::POD_PROXY_OPTIONS, &uri).unwrap()
        };
        assert_eq!(proxy(""), "{}");
        assert_eq!(proxy("/"), r#"{"path":"/"}"#);
        assert_eq!(proxy("/a/b?path=c"), r#"{"path":"/a/b"}"#);
        assert_eq!(proxy("/a/"), r#"{"path":"/a/"}"#);
    }
}
