//! What a kubelet is asked, made of the options that the client gave: nothing of the client's address
//! is passed on unread.

use form_urlencoded::Serializer;
use proto::view::core_v1::Pod;

use resources::request::Query;
use resources::status::Failure;

/// The path and query of a stream at the kubelet.
pub(super) fn of_stream(subresource: &str, pod: Pod<'_>, query: &Query) -> Result<String, Failure> {
    let (namespace, name) = (pod.metadata().namespace(), pod.metadata().name());
    if subresource == "portforward" {
        let ports = ports(query)?;
        let path = format!("/portForward/{namespace}/{name}");
        let options = if ports.is_empty() {
            vec![]
        } else {
            vec![("port", ports)]
        };
        return Ok(with_query(&path, &options));
    }
    let container = container(query.get("container").unwrap_or_default(), pod)?;
    let mut options: Vec<(&str, String)> = Vec::new();
    if subresource == "exec" {
        options.extend(query.all("command").map(|c| ("command", c.to_owned())));
    }
    let names = [
        ("stderr", "error"),
        ("stdin", "input"),
        ("stdout", "output"),
        ("tty", "tty"),
    ];
    for (ours, theirs) in names {
        if query.flag(ours).unwrap_or(false) {
            options.push((theirs, "1".to_owned()));
        }
    }
    let path = format!("/{subresource}/{namespace}/{name}/{container}");
    Ok(with_query(&path, &options))
}

/// A path with the options that are set.
pub(super) fn with_query(path: &str, options: &[(&str, String)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in options {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// The ports of a port-forward, as one list.
fn ports(query: &Query) -> Result<String, Failure> {
    let mut all = Vec::new();
    for text in query
        .all("ports")
        .flat_map(|p| p.split(','))
        .filter(|p| !p.is_empty())
    {
        let port: i32 = text.parse().map_err(|_| number(text))?;
        all.push(port.to_string());
    }
    Ok(all.join(","))
}

/// A text that should be a number, as Go's parser refuses it.
pub(super) fn number(text: &str) -> Failure {
    let quoted = proto::path::quote(text);
    Failure::bad_request(format!(
        "strconv.ParseInt: parsing {quoted}: invalid syntax"
    ))
}

/// The container that is meant: the only one if none is named.
pub(super) fn container(asked: &str, pod: Pod<'_>) -> Result<String, Failure> {
    let (spec, name) = (pod.spec(), pod.metadata().name());
    let inits = spec.init_containers().into_iter().map(|c| c.name());
    let main = spec.containers().into_iter().map(|c| c.name());
    let ephemeral = spec.ephemeral_containers().into_iter().map(|c| c.name());
    let all: Vec<&str> = inits.chain(main).chain(ephemeral).collect();
    if !asked.is_empty() {
        return if all.contains(&asked) {
            Ok(asked.to_owned())
        } else {
            let text = format!("container {asked} is not valid for pod {name}");
            Err(Failure::bad_request(text))
        };
    }
    let mut main = spec.containers().into_iter();
    match (main.next(), main.next()) {
        (Some(only), None) => Ok(only.name().to_owned()),
        (None, _) => {
            let text = format!("a container name must be specified for pod {name}");
            Err(Failure::bad_request(text))
        }
        _ => Err(Failure::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests;
