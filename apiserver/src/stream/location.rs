//! What a kubelet is asked, made of the options that the client gave: nothing of the client's address
//! is passed on unread.

use form_urlencoded::Serializer;
use proto::Value;
use proto::catalogue::names as n;
use proto::view::Node;
use proto::view::core_v1::Pod;
use resources::status::Failure;

/// The path and query of a stream at the kubelet.
pub(super) fn of_stream(
    subresource: &str,
    pod: Pod<'_>,
    options: Node<'_>,
) -> Result<String, Failure> {
    let (namespace, name) = (pod.metadata().namespace(), pod.metadata().name());
    if subresource == "portforward" {
        let ports = ports(options);
        let path = format!("/portForward/{namespace}/{name}");
        let query = if ports.is_empty() {
            vec![]
        } else {
            vec![("port", ports)]
        };
        return Ok(with_query(&path, &query));
    }
    let container = container(options.str(n::CONTAINER), pod)?;
    let mut query: Vec<(&str, String)> = Vec::new();
    if subresource == "exec" {
        let command = options.items(n::COMMAND).iter().filter_map(Value::as_str);
        query.extend(command.map(|c| ("command", c.to_owned())));
    }
    let names = [
        (n::STDERR, "error"),
        (n::STDIN, "input"),
        (n::STDOUT, "output"),
        (n::TTY, "tty"),
    ];
    for (ours, theirs) in names {
        if options.bool(ours) {
            query.push((theirs, "1".to_owned()));
        }
    }
    let path = format!("/{subresource}/{namespace}/{name}/{container}");
    Ok(with_query(&path, &query))
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
fn ports(options: Node<'_>) -> String {
    let ports = options.items(n::PORTS).iter().filter_map(Value::as_int);
    let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
    ports.join(",")
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
