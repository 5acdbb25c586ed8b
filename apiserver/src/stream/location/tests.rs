use proto::catalogue::messages::core_v1;
use proto::view::View;
use resources::request::{Query, RequestInfo};

use super::super::options;
use super::*;

fn pod(containers: &str) -> Value {
    let json = format!(
        r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[{containers}]}}}}"#
    );
    proto::codec::json::parse(json.as_bytes()).expect("JSON")
}

fn path(subresource: &str, object: &Value, query: &str) -> Result<String, u16> {
    let uri: http::Uri = format!("/?{query}").parse().expect("a uri");
    let of = match subresource {
        "exec" => core_v1::POD_EXEC_OPTIONS,
        "attach" => core_v1::POD_ATTACH_OPTIONS,
        _ => core_v1::POD_PORT_FORWARD_OPTIONS,
    };
    let info = RequestInfo::default();
    let options = options::read(of, &Query::parse(&uri), &info).map_err(|f| f.code())?;
    let pod = Pod::of(Node::new(object));
    of_stream(subresource, pod, Node::new(&options)).map_err(|f| f.code())
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
