//! etcd's HTTP gateway: what is written to etcd, as it is written.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::bench::client::{Call, Connection, Error as ClientError};
use crate::lines::Lines;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("etcd")]
    Client(#[from] ClientError),
    #[error("etcd")]
    Body(#[source] hyper::Error),
    #[error("etcd's answer cannot be read")]
    Malformed,
}

/// A watch of every key. It ends with its connection.
pub(crate) struct Watch {
    body: Incoming,
    lines: Lines,
    /// Lines that came with another.
    waiting: VecDeque<Vec<u8>>,
}

impl Watch {
    /// Everything that is written from this revision on.
    pub(crate) async fn begin(connection: &mut Connection, revision: u64) -> Result<Self, Error> {
        let everything = BASE64.encode([0]);
        let asked = json!({"create_request": {
            "key": everything, "range_end": everything, "start_revision": revision.to_string(),
        }});
        let call = Call::new(Method::POST, "/v3/watch", asked.to_string());
        Ok(Self {
            body: connection.begin(&call).await?.into_body(),
            lines: Lines::default(),
            waiting: VecDeque::new(),
        })
    }

    /// The next that etcd says; none at the end. Nothing is lost if it is given up.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                let mut message: Value =
                    serde_json::from_slice(&line).map_err(|_| Error::Malformed)?;
                return Ok(Some(message["result"].take()));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(Error::Body)?.into_data() {
                self.waiting.extend(self.lines.push(&data));
            }
        }
    }
}
