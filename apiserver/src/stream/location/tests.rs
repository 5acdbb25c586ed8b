use proto::view::{Node, View};

use super::*;

fn pod(containers: &str) -> proto::Value {
    let json = format!(
        r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[{containers}]}}}}"#
    );
    proto::codec::json::parse(json.as_bytes()).expect("JSON")
}

fn path(subresource: &str, object: &proto::Value, query: &str) -> Result<String, u16> {
    let uri: http::Uri = format!("/?{query}").parse().expect("a uri");
    of_stream(subresource, Pod::of(Node::new(object)), &Query::parse(&uri)).map_err(|f| f.code())
}

#[test]
fn a_stream_is_asked_for_in_the_words_of_the_kubelet() {
    let one = pod(r#"{"name":"c"}"#);
    assert_eq!(
        path(
            "exec",
            &one,
            "command=sh&command=-c&command=a+b&stdin=true&stdout=true&tty=false"
        ),
        Ok("/exec/n/p/c?command=sh&command=-c&command=a+b&input=1&output=1".into())
    );
    assert_eq!(path("portforward", &one, ""), Ok("/portForward/n/p".into()));
    assert_eq!(
        path("portforward", &one, "ports=80&ports=81"),
        Ok("/portForward/n/p?port=80%2C81".into())
    );
}

#[test]
fn a_container_is_named_where_there_are_several() {
    let two = pod(r#"{"name":"a"},{"name":"b"}"#);
    assert_eq!(path("attach", &two, ""), Err(400));
    assert_eq!(path("attach", &two, "container=c"), Err(400));
    assert_eq!(
        path("attach", &two, "container=b"),
        Ok("/attach/n/p/b".into())
    );
    // A name is not a way out of the path: it must be a container's.
    assert_eq!(path("attach", &two, "container=..%2Fx"), Err(400));
}
