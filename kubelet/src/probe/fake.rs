//! What tests of probes and hooks need: a runtime whose commands the test decides about, and web
//! servers that say what the test wrote.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use component::events::{Api, Recorder};
use component::testing::FakeApi;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::runtime::{
    Answer, ByteStream, ContainerConfig, ContainerFilter, ContainerStats, ContainerStatus, Error,
    Events, ExecOutput, ExecRequest, PodSandboxConfig, PodSandboxFilter, PodSandboxStats,
    PodSandboxStatus, Resources, Runtime, Session, Signal, Version,
};

type Decide = dyn Fn(&[String], Duration) -> Result<ExecOutput, Error> + Send + Sync;

/// A runtime that can do nothing but run commands.
pub(crate) struct Commands {
    decide: Box<Decide>,
    pub(crate) ran: Mutex<Vec<Vec<String>>>,
}

impl Commands {
    pub(crate) fn new(
        decide: impl Fn(&[String], Duration) -> Result<ExecOutput, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            decide: Box::new(decide),
            ran: Mutex::default(),
        })
    }

    /// Commands that all end like this.
    pub(crate) fn ending(exit_code: i32, stdout: &'static str, stderr: &'static str) -> Arc<Self> {
        Self::new(move |_, _| {
            Ok(ExecOutput {
                stdout: stdout.into(),
                stderr: stderr.into(),
                exit_code,
            })
        })
    }
}

fn no<T>() -> Answer<'static, T>
where
    T: Send + 'static,
{
    Box::pin(async { Err(Error::Unsupported("this, in a test,")) })
}

impl Runtime for Commands {
    fn version(&self) -> Version {
        Version {
            name: "test",
            version: "0",
        }
    }
    fn run_pod_sandbox(&self, _: PodSandboxConfig) -> Answer<'_, String> {
        no()
    }
    fn stop_pod_sandbox<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        no()
    }
    fn remove_pod_sandbox<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        no()
    }
    fn pod_sandbox_status<'a>(&'a self, _: &'a str) -> Answer<'a, PodSandboxStatus> {
        no()
    }
    fn list_pod_sandboxes(&self, _: PodSandboxFilter) -> Answer<'_, Vec<PodSandboxStatus>> {
        no()
    }
    fn create_container<'a>(&'a self, _: &'a str, _: ContainerConfig) -> Answer<'a, String> {
        no()
    }
    fn start_container<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        no()
    }
    fn stop_container<'a>(&'a self, _: &'a str, _: Duration, _: Option<Signal>) -> Answer<'a, ()> {
        no()
    }
    fn remove_container<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        no()
    }
    fn container_status<'a>(&'a self, _: &'a str) -> Answer<'a, ContainerStatus> {
        no()
    }
    fn list_containers(&self, _: ContainerFilter) -> Answer<'_, Vec<ContainerStatus>> {
        no()
    }
    fn update_container_resources<'a>(&'a self, _: &'a str, _: Resources) -> Answer<'a, ()> {
        no()
    }
    fn update_pod_sandbox_resources<'a>(&'a self, _: &'a str, _: Resources) -> Answer<'a, ()> {
        no()
    }
    fn exec_sync<'a>(
        &'a self,
        _: &'a str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Answer<'a, ExecOutput> {
        let output = (self.decide)(&command, timeout);
        self.ran.lock().push(command);
        Box::pin(async { output })
    }
    fn exec<'a>(&'a self, _: &'a str, _: ExecRequest) -> Answer<'a, Session> {
        no()
    }
    fn attach<'a>(&'a self, _: &'a str, _: bool) -> Answer<'a, Session> {
        no()
    }
    fn port_forward<'a>(&'a self, _: &'a str, _: u16) -> Answer<'a, Box<dyn ByteStream>> {
        no()
    }
    fn container_stats<'a>(&'a self, _: &'a str) -> Answer<'a, ContainerStats> {
        no()
    }
    fn pod_sandbox_stats<'a>(&'a self, _: &'a str) -> Answer<'a, PodSandboxStats> {
        no()
    }
    fn reopen_container_log<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        no()
    }
    fn events(&self) -> Events {
        unreachable!("nobody asks a runtime of a test for events")
    }
}

/// A recorder, and the API server that it records to.
pub(crate) fn recorder() -> (Recorder, FakeApi) {
    let api = FakeApi::plain();
    let recorder = Recorder::new(&api.client(), Api::Core, "kubelet", "node", &api.tasks);
    (recorder, api)
}

/// The next event: reason, message, and the part of the object that it is about.
pub(crate) async fn event(api: &mut FakeApi) -> (String, String, String) {
    let ask = api.next().await;
    let event: Value = ask.seen.json();
    ask.json(&event);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&event["reason"]),
        text(&event["message"]),
        text(&event["involvedObject"]["fieldPath"]),
    )
}

/// A server on loopback that answers every connection with what `answer` makes of its request's head,
/// and closes it. Nothing is an answer that never comes.
pub(crate) async fn serve(
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let tasks = component::Supervisor::current();
    tasks.spawn(component::Task::Background, "test", async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            let mut buffer = [0; 1024];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
                if head.first() == Some(&0x16) {
                    break; // TLS
                }
            }
            match answer(&String::from_utf8_lossy(&head)) {
                Some(answer) => {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => held.push(stream),
            }
        }
    });
    at
}

/// An answer in HTTP/1.1.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}
