//! Answers as messages of a WebSocket instead of a body: how browsers follow logs and watches.
//!
//! The server alone speaks; a message of the client is dropped, its goodbye answered. Upstream:
//! `streaming/pkg/httpstream/wsstream` (`Reader`), `apiserver/pkg/endpoints/handlers/watch.go`
//! (`HandleWS`).

use std::time::Duration;

use bytes::Bytes;
use component::Task;
use component::streaming::websocket::{Form, one_way};
use component::streaming::{LINGER, upgrade};
use futures::{Stream, StreamExt, stream};
use http::header::{HeaderValue, ORIGIN};
use http::{Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::metrics::Running;

/// The subprotocols of a stream of bytes; one that names none gets bytes as they are.
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// The client's end of the connection, if it wants a WebSocket and can have one.
pub fn wanted(x: &mut Exchange) -> Option<OnUpgrade> {
    let wanted = upgrade::is_websocket(&x.headers);
    x.upgrade.take_if(|_| wanted)
}

/// A body as messages, after an empty one that tells the client that there is an answer.
pub(super) fn bytes(x: &mut Exchange, end: OnUpgrade, body: Body) -> Response<Body> {
    let agreed = upgrade::websocket(&x.method, &x.headers, &[BINARY, BASE64], true);
    let (protocol, answer) = match agreed {
        Ok(agreed) => agreed,
        Err(refused) => return *refused,
    };
    let form = if protocol == Some(BASE64) {
        Form::Base64
    } else {
        Form::Binary
    };
    let pieces = body
        .into_data_stream()
        .take_while(|piece| std::future::ready(piece.is_ok()))
        .filter_map(|piece| std::future::ready(piece.ok()));
    let pieces = stream::once(std::future::ready(Bytes::new())).chain(pieces);
    drive(x, end, form, pieces, None);
    answer
}

/// Events as messages. Whatever single subprotocol the client names is taken; one that is no browser
/// must say where it comes from, as browsers do.
pub fn events(
    x: &mut Exchange,
    end: OnUpgrade,
    form: Form,
    events: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let origin = x.headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let origin = origin.and_then(|o| Uri::try_from(o).ok());
    if origin.is_none_or(|o| o.scheme().is_none()) {
        return refusal(StatusCode::FORBIDDEN);
    }
    let theirs = upgrade::subprotocols(&x.headers);
    if theirs.len() > 1 {
        return refusal(StatusCode::BAD_REQUEST);
    }
    match upgrade::websocket(&x.method, &x.headers, &theirs, true) {
        Ok((_, answer)) => {
            drive(x, end, form, events, Some(LINGER));
            answer
        }
        Err(refused) => *refused,
    }
}

fn refusal(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = code;
    response
}

/// Sends the pieces once the connection is handed over.
fn drive(
    x: &mut Exchange,
    end: OnUpgrade,
    form: Form,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    patience: Option<Duration>,
) {
    let counted = x.counted.take().map(Running::switched);
    let run = async move {
        let _until_here = counted;
        match end.await {
            Ok(io) => {
                if let Err(error) = one_way(TokioIo::new(io), form, pieces, patience).await {
                    let error = component::supervisor::chain(&error);
                    tracing::debug!(error, "A WebSocket broke");
                }
            }
            Err(error) => tracing::debug!(%error, "A WebSocket was not handed over"),
        }
    };
    let tasks = x.server.kubelets.tasks();
    tasks.spawn(Task::Background, "websocket", run);
}
