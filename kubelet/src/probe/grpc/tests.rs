use super::*;
use crate::probe::stream::Tls;
use component::{Supervisor, Task};
use serde_json::json;
use std::net::SocketAddr;

/// How a server answers.
#[derive(Clone, Copy)]
enum Answer {
    /// A message and a status after it.
    Says(&'static [u8], &'static str),
    /// No message, a status in the headers.
    Refuses(&'static str, &'static str),
    /// Nothing.
    Sleeps,
    /// Another status of HTTP.
    Http(u16),
}

async fn server(answer: Answer) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    Supervisor::current().spawn(Task::Background, "test", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()["content-type"], "application/grpc");
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.headers()["user-agent"], "kube-probe/1.37");
                respond_with(answer, respond);
            }
        }
    });
    at
}

fn respond_with(answer: Answer, mut respond: h2::server::SendResponse<Bytes>) {
    let trailers = |status: &str| {
        let mut map = HeaderMap::new();
        map.insert("grpc-status", status.parse().unwrap());
        map
    };
    match answer {
        Answer::Says(message, status) => {
            let mut body = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            body.send_data(message.into(), false).unwrap();
            body.send_trailers(trailers(status)).unwrap();
        }
        Answer::Refuses(status, message) => {
            let mut response = http::Response::new(());
            *response.headers_mut() = trailers(status);
            let message = message.parse().unwrap();
            response.headers_mut().insert("grpc-message", message);
            respond.send_response(response, true).unwrap();
        }
        Answer::Sleeps => std::mem::forget(respond),
        Answer::Http(code) => {
            let response = http::Response::builder().status(code).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        }
    }
}

async fn asked(answer: Answer) -> Outcome {
    let at = server(answer).await;
    ask(at, Duration::from_secs(20)).await
}

async fn ask(at: SocketAddr, timeout: Duration) -> Outcome {
    let action = json!({ "port": at.port(), "service": "svc" });
    let action = proto::typed::from_json_value(action).unwrap();
    check(&at.ip().to_string(), &action, timeout, &Tls::new()).await
}

fn failure(text: &str) -> Outcome {
    Outcome::Failure(text.to_owned())
}

#[tokio::test]
async fn a_service_is_as_it_says() {
    let says = |message| asked(Answer::Says(message, "0"));
    assert_eq!(says(&[0, 0, 0, 0, 2, 8, 1]).await, Outcome::Success);
    for (message, status) in [
        (&[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING"),
        (&[0, 0, 0, 0, 2, 8, 3], "SERVICE_UNKNOWN"),
        (&[0, 0, 0, 0, 0], "UNKNOWN"),
        (&[0, 0, 0, 0, 2, 8, 9], "9"),
    ] {
        let expected = format!("service unhealthy (responded with \"{status}\")");
        assert_eq!(says(message).await, failure(&expected));
    }
    let broken = "error: health rpc probe failed: rpc error: code = Internal desc = the answer \
                  cannot be read";
    for message in [
        &[][..],
        &[1, 0, 0, 0, 0],
        &[0, 0, 0, 0, 9, 8],
        &[0, 0, 0, 0, 1, 8],
    ] {
        assert_eq!(says(message).await, failure(broken), "{message:?}");
    }
}

#[tokio::test]
async fn failures_are_told_in_upstreams_words() {
    assert_eq!(
        asked(Answer::Refuses(
            "12",
            "unknown service grpc.health.v1.Health"
        ))
        .await,
        failure(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): unknown service grpc.health.v1.Health"
        )
    );
    assert_eq!(
        asked(Answer::Refuses("5", "no%20such%3Bthing%")).await,
        failure("error: health rpc probe failed: rpc error: code = NotFound desc = no such;thing%")
    );
    assert_eq!(
        asked(Answer::Says(&[0, 0, 0, 0, 2, 8, 1], "14")).await,
        failure("error: health rpc probe failed: rpc error: code = Unavailable desc = ")
    );
    assert_eq!(
        asked(Answer::Http(503)).await,
        failure(
            "error: health rpc probe failed: rpc error: code = Unknown desc = unexpected HTTP \
             status code received from server: 503 Service Unavailable"
        )
    );
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_timeout() {
    let second = Duration::from_secs(1);
    let at = server(Answer::Sleeps).await;
    assert_eq!(
        ask(at, second).await,
        failure("timeout: health rpc did not complete within 1s")
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    assert_eq!(
        ask(closed, second).await,
        failure(&format!(
            "timeout: failed to connect service \"{closed}\" within 1s: context deadline exceeded"
        ))
    );
}

#[test]
fn a_request_names_its_service() {
    assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
    assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
    let long = message(&"x".repeat(300));
    assert_eq!(&long[..8], [0, 0, 0, 1, 47, 10, 0xac, 2]);
}

proptest::proptest! {
    #[test]
    fn no_answer_breaks_anything(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
        let _ = serving_status(&bytes);
        let mut framed = vec![0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()];
        framed.extend(&bytes);
        let _ = serving_status(&framed);
    }
}
