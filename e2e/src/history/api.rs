//! How clients speak to an API server: requests as a run makes them, and what answers mean for a history.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::random::Random;
use super::record::{At, Kind, Object, Operation, Outcome, Revision, Want, What, Write, Written};
use crate::bench::client::{Call, Connection, Error as ClientError};

pub(super) const NAMESPACE: &str = "history";
pub(super) const COLORS: &[&str] = &["red", "green", "blue"];

const CONNECT: Duration = Duration::from_secs(2);
/// An answer that takes longer is not waited for: what it would have said is unknown.
const ANSWER: Duration = Duration::from_secs(5);
/// Requests on one connection, after which a client opens a new one.
const REUSED: usize = 20;

/// What all clients of a run share.
pub(super) struct World {
    pub began: Instant,
    /// API servers: names and where clients reach them.
    pub servers: Vec<(String, SocketAddr)>,
    pub tls: Arc<rustls::ClientConfig>,
    pub operations: Mutex<Vec<Operation>>,
    pub nonsense: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn now(&self) -> At {
        u64::try_from(self.began.elapsed().as_micros()).expect("runs last less than centuries")
    }

    /// Notes what cannot be read, and says so.
    pub(super) fn nonsense(&self, what: &impl std::fmt::Display) -> String {
        let what = what.to_string();
        self.nonsense.lock().push(what.clone());
        format!("nonsense: {what}")
    }

    pub(super) fn record(&self, operation: Operation) {
        self.operations.lock().push(operation);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request never left.
    NotSent(String),
    Refused(u16, String),
    Open(String),
}

impl Failure {
    /// What it means for a request that changes something.
    pub(super) fn outcome<T>(self) -> Outcome<T> {
        match self {
            Self::NotSent(why) => Outcome::Refused(0, why),
            // A server that failed may have done it before; one that says why it did not, did not.
            Self::Refused(status, reason) if status < 500 && status != 408 => {
                Outcome::Refused(status, reason)
            }
            Self::Refused(status, reason) => Outcome::Unknown(format!("{status} {reason}")),
            Self::Open(why) => Outcome::Unknown(why),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::NotSent(why) | Self::Open(why) => why.clone(),
            Self::Refused(status, reason) => format!("{status} {reason}"),
        }
    }
}

/// A client's way to the API servers: a connection to one of them for a while, then another one. It never repeats a request.
pub(super) struct Caller {
    pub world: Arc<World>,
    connection: Option<Connection>,
    left: usize,
    /// The API server that is asked now.
    server: usize,
}

impl Caller {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            connection: None,
            left: 0,
            server: 0,
        }
    }

    /// Notes what a client did at the server asked now, from `call` on.
    pub(super) fn record(&self, client: u32, call: u64, what: What) {
        self.world.record(Operation {
            client,
            server: self.server(),
            call,
            done: self.world.now(),
            what,
        });
    }

    pub(super) fn server(&self) -> String {
        self.world.servers[self.server].0.clone()
    }

    /// Chooses the API server that the next request goes to, if a new connection is due.
    pub(super) fn turn(&mut self, random: &mut Random) {
        if self.left == 0 || self.connection.is_none() {
            self.aim(random.below(self.world.servers.len()));
        }
        self.left -= 1;
    }

    /// Asks this API server from now on.
    pub(super) fn aim(&mut self, server: usize) {
        self.connection = None;
        self.left = REUSED;
        self.server = server;
    }

    /// Sends a request; the body of its answer is still to come.
    pub(super) async fn begin(&mut self, call: &Call) -> Result<Response<Incoming>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let address = self.world.servers[self.server].1;
                let opening = Connection::open(address, Arc::clone(&self.world.tls));
                match timeout(CONNECT, opening).await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(error)) => return Err(Failure::NotSent(error.to_string())),
                    Err(_) => return Err(Failure::NotSent("no connection in time".to_owned())),
                }
            }
        };
        match timeout(ANSWER, connection.begin(call)).await {
            Ok(Ok(response)) => {
                self.connection = Some(connection);
                Ok(response)
            }
            Ok(Err(ClientError::Refused { status, text, .. })) => {
                self.connection = Some(connection);
                let body: Value = serde_json::from_str(&text).unwrap_or_default();
                let reason = body["reason"].as_str().unwrap_or(text.trim());
                Err(Failure::Refused(status, reason.chars().take(80).collect()))
            }
            Ok(Err(error)) => Err(Failure::Open(crate::init::chain(&error))),
            Err(_) => Err(Failure::Open("no answer in time".to_owned())),
        }
    }

    /// Sends a request and reads its whole answer.
    pub(super) async fn ask(&mut self, call: &Call) -> Result<Value, Failure> {
        let response = self.begin(call).await?;
        let whole = match timeout(ANSWER, response.into_body().collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) => {
                self.connection = None;
                return Err(Failure::Open(error.to_string()));
            }
            Err(_) => {
                self.connection = None;
                return Err(Failure::Open("the answer does not end in time".to_owned()));
            }
        };
        serde_json::from_slice(&whole)
            .map_err(|_| Failure::Open(self.world.nonsense(&String::from_utf8_lossy(&whole))))
    }

    pub(super) async fn write(&mut self, write: &Write) -> Outcome<Written> {
        let answer = match self.ask(&write_call(write)).await {
            Ok(answer) => answer,
            Err(failure) => return failure.outcome(),
        };
        let written = match write {
            Write::Delete { .. } => answer["details"]["uid"]
                .as_str()
                .map(|uid| Written::Deleted(uid.to_owned())),
            _ => object(&answer).map(Written::Stored),
        };
        written.map_or_else(
            || Outcome::Unknown(self.world.nonsense(&answer)),
            Outcome::Done,
        )
    }

    pub(super) async fn get(&mut self, key: &str, want: Want) -> Outcome<Option<Object>> {
        let call = Call::get(format!("{}?{}", item(key), version(want)));
        match self.ask(&call).await {
            Ok(answer) => match object(&answer) {
                Some(object) => Outcome::Done(Some(object)),
                None => Outcome::Unknown(self.world.nonsense(&answer)),
            },
            Err(Failure::Refused(404, reason)) if reason == "NotFound" => Outcome::Done(None),
            Err(failure) => failure.outcome(),
        }
    }

    /// One page of a list: its revision, its objects and the token for the next.
    pub(super) async fn page(
        &mut self,
        color: Option<&str>,
        limit: Option<usize>,
        from: Result<Want, &str>,
    ) -> Result<(Revision, Vec<Object>, Option<String>), Failure> {
        let mut query = match from {
            Ok(want) => version(want),
            Err(token) => format!("continue={token}"),
        };
        if let Some(limit) = limit {
            query.push_str(&format!("&limit={limit}"));
        }
        let call = Call::get(format!("{}?{query}{}", collection(), selector(color)));
        let answer = self.ask(&call).await?;
        let items = answer["items"].as_array().into_iter().flatten();
        let objects: Option<Vec<Object>> = items.map(object).collect();
        let next = answer["metadata"]["continue"].as_str();
        let next = next.filter(|next| !next.is_empty()).map(str::to_owned);
        match (revision(&answer), objects) {
            (Some(revision), Some(objects)) => Ok((revision, objects, next)),
            _ => Err(Failure::Open(self.world.nonsense(&answer))),
        }
    }
}

pub(super) fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn item(key: &str) -> String {
    format!("{}/{key}", collection())
}

pub(super) fn selector(color: Option<&str>) -> String {
    color.map_or_else(String::new, |color| {
        format!("&labelSelector=color%3D{color}")
    })
}

fn version(want: Want) -> String {
    match want {
        Want::Fresh => String::new(),
        Want::Any => "resourceVersion=0".to_owned(),
        // A GET knows no resourceVersionMatch and takes it as this one.
        Want::NotOlderThan(revision) => {
            format!("resourceVersion={revision}&resourceVersionMatch=NotOlderThan")
        }
        Want::Exact(revision) => format!("resourceVersion={revision}&resourceVersionMatch=Exact"),
    }
}

fn write_call(write: &Write) -> Call {
    let whole = |key: &str, value: &str, color: &str, expect: Option<Revision>| {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": key, "labels": {"color": color}},
            "data": {"value": value},
        });
        if let Some(expect) = expect {
            object["metadata"]["resourceVersion"] = expect.to_string().into();
        }
        object.to_string()
    };
    match write {
        Write::Create { key, value, color } => {
            Call::new(Method::POST, collection(), whole(key, value, color, None))
        }
        Write::Update {
            key,
            value,
            color,
            expect,
        } => Call::new(Method::PUT, item(key), whole(key, value, color, *expect)),
        Write::Patch { key, value } => {
            let patch = json!({"data": {"value": value}}).to_string();
            Call::new(Method::PATCH, item(key), patch).content("application/merge-patch+json")
        }
        Write::Delete { key, expect } => {
            let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
            if let Some(expect) = expect {
                options["preconditions"]["resourceVersion"] = expect.to_string().into();
            }
            Call::new(Method::DELETE, item(key), options.to_string())
        }
    }
}

pub(super) fn revision(object: &Value) -> Option<Revision> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

pub(super) fn object(answer: &Value) -> Option<Object> {
    let meta = &answer["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Object {
        key: text(&meta["name"])?,
        revision: revision(answer)?,
        uid: text(&meta["uid"])?,
        value: text(&answer["data"]["value"])?,
        color: text(&meta["labels"]["color"])?,
    })
}

pub(super) fn kind(name: &str) -> Option<Kind> {
    match name {
        "ADDED" => Some(Kind::Added),
        "MODIFIED" => Some(Kind::Modified),
        "DELETED" => Some(Kind::Deleted),
        _ => None,
    }
}
