//! Does to a cluster what a plan says, and heals it.
//!
//! Clock jumps are not among the faults: a time namespace moves the monotonic and the boot-time clock of processes that are
//! started in it, never the real-time clock, which can only be moved for the whole machine.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::observer::{Observer, number};
use super::plan::{Kind, Step};
use crate::cluster::{self, Cluster, Daemon};
use crate::{command, https};

/// etcd's quota in bytes, so that [`Kind::Full`] has little to fill.
pub(super) const QUOTA: usize = 48 << 20;
/// What fills it, outside of what API servers read.
const JUNK: &str = "/history-junk/";
const JUNK_SIZE: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(50);
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error(transparent)]
    Https(#[from] https::Error),
    #[error("etcd: {path}: {status}: {text}")]
    Etcd {
        path: &'static str,
        status: u16,
        text: String,
    },
    #[error("no member of etcd leads")]
    NoLeader,
    #[error("the observer does not reach revision {0}")]
    Behind(u64),
    #[error("etcd took {} MiB beyond its quota", QUOTA >> 20)]
    NotFull,
}

/// The hosts of the control plane are called so, counted from zero.
pub fn host(index: usize) -> String {
    match index {
        0 => "control-plane".to_owned(),
        _ => format!("control-plane-{}", index + 1),
    }
}

pub(super) struct Injector {
    cluster: Cluster,
    etcd: https::Client,
    observer: Observer,
}

impl Injector {
    pub(super) fn new(cluster: Cluster, observer: Observer) -> Result<Self, Error> {
        let etcd = cluster.etcd_client()?;
        let injector = Self {
            cluster,
            etcd,
            observer,
        };
        injector.heal_network()?;
        Ok(injector)
    }

    /// Does all steps at their times and heals each; returns what could not be done and why.
    pub(super) fn run(&self, began: Instant, plan: &[Step]) -> Vec<String> {
        let mut failed = Vec::new();
        for step in plan {
            sleep(step.at.saturating_sub(began.elapsed()));
            let done = self.inject(step);
            if done.is_ok() {
                sleep(step.lasts);
            }
            for result in [done, self.heal(step)] {
                if let Err(error) = result {
                    failed.push(format!("{}: {}", step.kind, crate::init::chain(&error)));
                }
            }
        }
        failed
    }

    fn inject(&self, step: &Step) -> Result<(), Error> {
        let (server, member) = (host(step.api_server), host(step.member));
        let signal =
            |host: &str, daemon, signal| Ok(self.cluster.signal(Some(host), daemon, signal)?);
        match step.kind {
            Kind::KillApiserver => signal(&server, Daemon::KubeApiserver, Signal::SIGKILL),
            Kind::KillEtcd => signal(&member, Daemon::Etcd, Signal::SIGKILL),
            Kind::PauseApiserver => signal(&server, Daemon::KubeApiserver, Signal::SIGSTOP),
            Kind::PauseEtcd => signal(&member, Daemon::Etcd, Signal::SIGSTOP),
            Kind::CutApiserver => self.cut_api_server(step.api_server, &[step.member], "drop"),
            Kind::CompactBehind => {
                let members: Vec<usize> = (0..self.cluster.spec.etcd_members).collect();
                self.cut_api_server(step.api_server, &members, "reject with tcp reset")
            }
            Kind::CutMember => self.cut_member(step.member),
            Kind::MoveLeader => self.move_leader(),
            Kind::Compact => self.compact(step.member),
            Kind::Defragment => self
                .ask(step.member, "/v3/maintenance/defragment", &json!({}))
                .map(drop),
            Kind::Full => self.fill(step.member),
        }
    }

    fn heal(&self, step: &Step) -> Result<(), Error> {
        let (server, member) = (host(step.api_server), host(step.member));
        let go_on = |host: &str, daemon| {
            // One that is gone needs no waking.
            if let Ok(pid) = self.cluster.pid(Some(host), daemon) {
                let _ = kill(pid, Signal::SIGCONT);
            }
            Ok(())
        };
        match step.kind {
            Kind::PauseApiserver => go_on(&server, Daemon::KubeApiserver),
            Kind::PauseEtcd => go_on(&member, Daemon::Etcd),
            Kind::CutApiserver | Kind::CutMember => self.heal_network(),
            Kind::CompactBehind => {
                // It stands still meanwhile, so that it is not back before the compaction.
                self.cluster
                    .signal(Some(&server), Daemon::KubeApiserver, Signal::SIGSTOP)?;
                let compacted = self
                    .heal_network()
                    .and_then(|()| self.compact_all(step.member));
                go_on(&server, Daemon::KubeApiserver)?;
                compacted
            }
            Kind::Full => self.empty(step.member),
            Kind::KillApiserver
            | Kind::KillEtcd
            | Kind::MoveLeader
            | Kind::Compact
            | Kind::Defragment => Ok(()),
        }
    }

    /// Asks one member of etcd through its HTTP gateway.
    fn ask(&self, member: usize, path: &'static str, body: &Value) -> Result<Value, Error> {
        let body = body.to_string();
        let request = https::Request {
            method: "POST",
            content: "application/json",
            body: body.as_bytes(),
            ..https::Request::get(path)
        };
        let answer = self.etcd.send(self.cluster.etcd()[member], &request)?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200 => Ok(serde_json::from_str(&text).unwrap_or_default()),
            status => Err(Error::Etcd {
                path,
                status,
                text: text.trim().to_owned(),
            }),
        }
    }

    /// Hands leadership to the member after the one that leads.
    fn move_leader(&self) -> Result<(), Error> {
        let members = 0..self.cluster.spec.etcd_members;
        let status = members.map(|member| {
            let status = self
                .ask(member, "/v3/maintenance/status", &json!({}))
                .ok()?;
            Some((
                status["header"]["member_id"].clone(),
                status["leader"].clone(),
            ))
        });
        let status: Vec<_> = status.collect();
        let leads = |seen: &Option<(Value, Value)>| {
            seen.as_ref()
                .is_some_and(|(id, leader)| id == leader && id.is_string())
        };
        let leader = status.iter().position(leads).ok_or(Error::NoLeader)?;
        let next = &status[(leader + 1) % status.len()];
        let (id, _) = next.as_ref().ok_or(Error::NoLeader)?;
        self.ask(
            leader,
            "/v3/maintenance/transfer-leadership",
            &json!({"targetID": id}),
        )?;
        Ok(())
    }

    /// Compacts everything that the observer has seen: never what it has not.
    fn compact(&self, member: usize) -> Result<(), Error> {
        let revision = self.observer.upto().to_string();
        let body = json!({"revision": revision, "physical": true});
        match self.ask(member, "/v3/kv/compaction", &body) {
            // Nothing was written since the last time.
            Err(Error::Etcd { text, .. }) if text.contains("has been compacted") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Waits until the observer has seen all that there is, and compacts it. A member that was cut off from itself, as its
    /// gateway is with its host's API server, needs a moment.
    fn compact_all(&self, member: usize) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let nothing = json!({"key": BASE64.encode(JUNK)});
        let wanted = loop {
            match self.ask(member, "/v3/kv/range", &nothing) {
                Ok(answer) => break number(&answer["header"]["revision"]),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(AGAIN),
            }
        };
        while self.observer.upto() < wanted {
            if Instant::now() > deadline {
                return Err(Error::Behind(wanted));
            }
            sleep(AGAIN);
        }
        self.compact(member)
    }

    /// Writes until etcd has no space left.
    fn fill(&self, member: usize) -> Result<(), Error> {
        let value = BASE64.encode(vec![b'x'; JUNK_SIZE]);
        for number in 0..2 * QUOTA / JUNK_SIZE {
            let key = BASE64.encode(format!("{JUNK}{number}"));
            match self.ask(member, "/v3/kv/put", &json!({"key": key, "value": value})) {
                Ok(_) => {}
                Err(Error::Etcd { text, .. }) if text.contains("space exceeded") => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(Error::NotFull)
    }

    /// Gives the space back and ends the alarm, as etcd's manual says.
    fn empty(&self, member: usize) -> Result<(), Error> {
        let [key, end] = [JUNK, "/history-junk0"].map(|key| BASE64.encode(key));
        let junk = json!({"key": key, "range_end": end});
        self.ask(member, "/v3/kv/deleterange", &junk)?;
        self.compact_all(member)?;
        for each in 0..self.cluster.spec.etcd_members {
            self.ask(each, "/v3/maintenance/defragment", &json!({}))?;
        }
        for alarm in self.alarms(member)? {
            let disarm = json!({"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]});
            self.ask(member, "/v3/maintenance/alarm", &disarm)?;
        }
        Ok(())
    }

    fn alarms(&self, member: usize) -> Result<Vec<Value>, Error> {
        let mut said = self.ask(member, "/v3/maintenance/alarm", &json!({"action": "GET"}))?;
        match said["alarms"].take() {
            Value::Array(alarms) => Ok(alarms),
            _ => Ok(Vec::new()),
        }
    }

    /// Heals what a fault left that was not healed in its time: of the members, the first that answers is asked.
    fn make_room(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        for member in (0..self.cluster.spec.etcd_members).cycle() {
            let healed = self.alarms(member).and_then(|alarms| match alarms[..] {
                [] => Ok(()),
                _ => self.empty(member),
            });
            match healed {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(AGAIN),
            }
        }
        Ok(())
    }

    fn table(&self) -> String {
        format!("{}-history", self.cluster.name())
    }

    /// What becomes of packets between an API server and members of etcd.
    fn cut_api_server(&self, server: usize, members: &[usize], verdict: &str) -> Result<(), Error> {
        let etcd = self.cluster.etcd();
        let addresses = members.iter().map(|member| etcd[*member].ip().to_string());
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        // A member on the same host speaks to itself on this port too: its gateway does.
        let of_host = self.of_host(server);
        self.filter(
            &format!("ip daddr {{ {addresses} }} tcp dport {CLIENTS} {of_host} {verdict}"),
            &format!("ip saddr {{ {addresses} }} tcp sport {CLIENTS} {of_host} {verdict}"),
        )
    }

    fn cut_member(&self, member: usize) -> Result<(), Error> {
        let of_host = self.of_host(member);
        let cut = format!("tcp dport {PEERS} {of_host} drop\ntcp sport {PEERS} {of_host} drop");
        self.filter(&cut, &cut)
    }

    /// What matches the sockets of a host's processes. nft finds a cgroup by its path below `/sys/fs/cgroup`, where version 2
    /// may be mounted deeper; the level counts from its own root.
    fn of_host(&self, index: usize) -> String {
        let deeper = Path::new("/sys/fs/cgroup/unified").exists();
        let root = if deeper { "unified/" } else { "" };
        format!(
            "socket cgroupv2 level 2 \"{root}{}/{}\"",
            self.cluster.name(),
            host(index)
        )
    }

    /// Rules for what leaves and what arrives at sockets on this machine.
    fn filter(&self, leaving: &str, arriving: &str) -> Result<(), Error> {
        let table = self.table();
        let chain = |hook, rules: &str| {
            format!("chain {hook} {{\ntype filter hook {hook} priority 0\n{rules}\n}}\n")
        };
        let rules = format!(
            "table ip {table} {{\n{}{}}}\n",
            chain("output", leaving),
            chain("input", arriving)
        );
        command::run_with_input("nft", &["-f", "-"], &rules)?;
        Ok(())
    }

    /// All packets pass again.
    pub(super) fn heal_network(&self) -> Result<(), Error> {
        let table = self.table();
        // Made first, so that there is one to remove.
        let rules = format!("add table ip {table}\ndelete table ip {table}\n");
        command::run_with_input("nft", &["-f", "-"], &rules)?;
        Ok(())
    }

    /// Waits until every daemon answers again. An etcd that is full says that it is not well: that ends first.
    pub(super) fn settle(&self) -> Result<(), Error> {
        self.make_room()?;
        for member in 0..self.cluster.spec.etcd_members {
            self.cluster.start(Some(&host(member)), Daemon::Etcd)?;
        }
        for server in 0..self.cluster.spec.api_servers {
            self.cluster
                .start(Some(&host(server)), Daemon::KubeApiserver)?;
        }
        Ok(())
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // Whatever ended the run: no packets stay dropped.
        let _ = self.heal_network();
    }
}
