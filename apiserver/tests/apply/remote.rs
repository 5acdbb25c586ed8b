//! Servers that the API server asks: over TLS, on a port of their own, with what they were asked.

use std::sync::Arc;

use bytes::Bytes;
use component::Supervisor;
use component::Task;
use component::serving::{self, Identity, Options, Request, Response, Server, Tls};
use component::testing::{Ca, Files};
use futures::future::BoxFuture;
use http::StatusCode;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) authorization: String,
    pub(crate) traceparent: String,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server.
pub(crate) struct Remote {
    /// `https://127.0.0.1:port`.
    pub(crate) url: String,
    /// Who vouches for it.
    pub(crate) ca: Ca,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Remote {
    pub(crate) fn start<F>(answer: F) -> Self
    where
        F: Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    {
        Self::start_as(&["127.0.0.1"], answer)
    }

    /// One whose certificate is for these names.
    pub(crate) fn start_as<F>(names: &[&str], answer: F) -> Self
    where
        F: Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    {
        let ca = Ca::new("remote");
        let identity = Identity::Memory(ca.server(names));
        let options = Options::secure("127.0.0.1:0".parse().unwrap(), Tls::new(identity));
        let server = Server::bind(options).unwrap();
        let url = format!("https://{}", server.address());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let header = |name| {
                    let value = head.headers.get(name);
                    value.map_or(String::new(), |v| v.to_str().unwrap().to_owned())
                };
                let host = head.headers.get("host").and_then(|v| v.to_str().ok());
                let authority = head.uri.authority().map(|a| a.as_str());
                let asked = Asked {
                    path: head.uri.path().to_owned(),
                    host: host.or(authority).unwrap_or_default().to_owned(),
                    authorization: header("authorization"),
                    traceparent: header("traceparent"),
                    body: body.collect().await.unwrap().to_bytes(),
                };
                seen.lock().push(asked.clone());
                Ok(answer(asked).await)
            }
        });
        server.serve(&Supervisor::current(), Task::Server, "remote", service);
        Self { url, ca, asked }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// A kubeconfig that leads to a path of it.
    pub(crate) fn kubeconfig(&self, files: &Files, name: &str, path: &str) -> String {
        let ca = files.write(&format!("{name}.ca"), &self.ca.pem);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters:\n- name: k\n  cluster: {{server: '{}{path}', certificate-authority: '{}'}}\n\
             users:\n- name: u\n  user: {{token: from-the-api-server}}\n\
             contexts:\n- name: c\n  context: {{cluster: k, user: u}}\n",
            self.url,
            ca.display()
        );
        files.write(name, &text).display().to_string()
    }
}

pub(crate) fn json(code: u16, value: &Value) -> Response {
    serving::json(StatusCode::from_u16(code).unwrap(), value)
}
