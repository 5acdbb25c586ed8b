//! Reading answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::transport::TransportError;

/// A stream that is silent for so long in the middle of a whole answer has lost its server.
const SILENCE: Duration = Duration::from_secs(60);

/// All bytes of a body, at most `most`.
///
/// # Errors
/// If the connection breaks, or the body is longer.
pub async fn read_all(mut body: Incoming, most: usize) -> Result<Bytes, TransportError> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame())
            .await
            .map_err(|_| TransportError::Silent(SILENCE))?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(TransportError::Http)?.into_data() else {
            continue;
        };
        let length = first.as_ref().map_or(0, Bytes::len) + all.len() + data.len();
        if length > most {
            return Err(TransportError::TooLong(most));
        }
        match (&first, all.is_empty()) {
            (None, true) => first = Some(data),
            _ => {
                if let Some(first) = first.take() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// A body as a stream of its bytes.
pub fn stream(body: Incoming) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    let frames = stream::unfold(body, |mut body| async move {
        let frame = body.frame().await?;
        Some((frame.map_err(TransportError::Http), body))
    });
    frames.filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(e) => Some(Err(e)),
        }
    })
}
