//! One API server of ours and one of upstream's on one etcd, both writing.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use e2e::cluster::{Daemon, Upstream};
use e2e::diff::etcd::Etcd;
use e2e::diff::value::{list, text};
use serde_json::{Value, json};

use super::api::Api;
use super::fixture::{Fixture, SOON, eventually};
use super::storage::THEIRS;

const COMPACTION: Duration = Duration::from_secs(5);
/// Where API servers agree on compactions.
const COMPACT_KEY: &str = "compact_rev_key";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The object that is written last.
const LAST: &str = "z-last";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// One test, because two API servers take a while to start.
#[test]
fn two_servers_write_one_etcd() {
    let fixture = Fixture::api_servers("both", |spec| {
        spec.api_servers = 2;
        spec.etcd_members = 3;
        spec.upstream = Upstream::default().and(Daemon::KubeApiserver, THEIRS);
        let flag = format!("--etcd-compaction-interval={}s", COMPACTION.as_secs());
        spec.flags = vec![(Daemon::KubeApiserver, flag)];
    });
    let servers = [
        Api::on(&fixture.cluster, "ours", "control-plane"),
        Api::on(&fixture.cluster, "upstream's", THEIRS),
    ];
    let etcd = Etcd::of(&fixture.cluster).unwrap();
    eventually(SOON, || {
        let answer = servers[0].get("/api/v1/namespaces/default");
        (answer.status == 200)
            .then_some(())
            .ok_or("no namespace".to_owned())
    });
    both_are_known(&servers);
    let compacted = thread::scope(|scope| {
        let compactions = scope.spawn(|| compactions(&etcd));
        no_update_is_lost(&servers);
        each_sees_what_the_other_writes(&servers);
        nothing_is_given_twice(&servers);
        compactions.join().unwrap()
    });
    old_is_forgotten_and_young_is_not(&etcd, compacted);
}

/// Each has an identity and an endpoint, whoever wrote them last.
fn both_are_known(servers: &[Api; 2]) {
    let addresses: BTreeSet<String> = servers.iter().map(Api::ip).collect();
    for api in servers {
        api.knows_servers(&addresses);
        eventually(SOON, || {
            let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases\
                        ?labelSelector=apiserver.kubernetes.io/identity=kube-apiserver";
            let leases = api.get(path).json();
            let hosts: BTreeSet<&str> = list(&leases["items"])
                .iter()
                .map(|lease| text(&lease["metadata"]["labels"]["kubernetes.io/hostname"]))
                .collect();
            let both = ["control-plane", THEIRS].into_iter().collect();
            (hosts == both).then_some(()).ok_or(format!("{hosts:?}"))
        });
    }
}

/// Four clients count in one object, half of them by each server; a conflict is read again, as every client does.
fn no_update_is_lost(servers: &[Api; 2]) {
    const EACH: u64 = 25;
    let map = json!({"metadata": {"name": "count"}, "data": {"count": "0"}});
    servers[0].post(MAPS, &map).good();
    let own = format!("{MAPS}/count");
    let count = |object: &Value| text(&object["data"]["count"]).parse::<u64>().unwrap();
    let conflicts: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (api, own) = (&servers[client % 2], &own);
                scope.spawn(move || {
                    let mut conflicts = 0;
                    let mut done = 0;
                    while done < EACH {
                        let mut object = api.get(own).good();
                        let next = count(&object) + 1;
                        object["data"]["count"] = next.to_string().into();
                        let answer = api.put(own, &object);
                        match answer.status {
                            409 => conflicts += 1,
                            _ => {
                                assert_eq!(count(&answer.good()), next);
                                done += 1;
                            }
                        }
                    }
                    conflicts
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    for api in servers {
        assert_eq!(count(&api.get(&own).good()), 4 * EACH, "{}", api.name);
    }
    assert!(conflicts > 0, "the clients never met");
}

/// Watches on both while both write: each tells every event once, in one order.
fn each_sees_what_the_other_writes(servers: &[Api; 2]) {
    const EACH: usize = 40;
    let map = |name: &str| json!({"metadata": {"name": name, "labels": {"watched": ""}}});
    let start = servers[0].get(MAPS).good();
    let start: u64 = text(&start["metadata"]["resourceVersion"]).parse().unwrap();
    let seen = thread::scope(|scope| {
        let watches = servers
            .each_ref()
            .map(|api| scope.spawn(move || watch(api, start)));
        let writers = servers.each_ref().map(|api| {
            scope.spawn(move || {
                for n in 0..EACH {
                    let name = format!("{}-{n}", api.name.replace('\'', ""));
                    api.post(MAPS, &map(&name)).good();
                }
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        servers[0].post(MAPS, &map(LAST)).good();
        watches.map(|watch| watch.join().unwrap())
    });
    assert_eq!(seen[0].len(), 2 * EACH + 1, "{:?}", seen[0]);
    assert_eq!(seen[0], seen[1]);
    let versions: Vec<u64> = seen[0].iter().map(|(_, version)| *version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
}

/// Watches on from `version`, as a client does whose watches end now and then, until the last object comes.
fn watch(api: &Api, mut version: u64) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = Vec::new();
    loop {
        let path = format!(
            "{MAPS}?watch=true&resourceVersion={version}&labelSelector=watched&timeoutSeconds=3"
        );
        all.extend(events(&api.get(&path).body));
        match all.last() {
            Some((name, _)) if name == LAST => return all,
            Some((_, last)) => version = *last,
            None => {}
        }
    }
}

/// Names and versions of the objects that were added.
fn events(body: &[u8]) -> Vec<(String, u64)> {
    let lines = String::from_utf8_lossy(body).into_owned();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["type"] == "ADDED")
        .map(|event| {
            let meta = &event["object"]["metadata"];
            let version = text(&meta["resourceVersion"]).parse().unwrap();
            (text(&meta["name"]).to_owned(), version)
        })
        .collect()
}

/// Addresses and node ports of Services that both servers create at once; and what one has given the other refuses.
fn nothing_is_given_twice(servers: &[Api; 2]) {
    const EACH: usize = 60;
    let service = |name: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"app": name}},
        })
    };
    let given: Vec<Value> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let api = &servers[client % 2];
                scope.spawn(move || {
                    let create = |n| {
                        api.post(SERVICES, &service(&format!("s-{client}-{n}")))
                            .good()
                    };
                    (0..EACH).map(create).collect::<Vec<_>>()
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let addresses: BTreeSet<&str> = given
        .iter()
        .map(|of| text(&of["spec"]["clusterIP"]))
        .collect();
    let ports: BTreeSet<String> = given
        .iter()
        .map(|of| of["spec"]["ports"][0]["nodePort"].to_string())
        .collect();
    assert_eq!((addresses.len(), ports.len()), (4 * EACH, 4 * EACH));

    for (giver, other) in [(&servers[0], &servers[1]), (&servers[1], &servers[0])] {
        let mine = giver.post(SERVICES, &service("given")).good();
        for field in ["clusterIP", "ports"] {
            let mut taken = service("taken");
            taken["spec"][field] = mine["spec"][field].clone();
            let answer = other.post(SERVICES, &taken);
            let said = answer.json();
            assert_eq!(
                (answer.status, text(&said["reason"])),
                (422, "Invalid"),
                "{said}"
            );
        }
        // What is given back can be given again, by either.
        giver.delete(&format!("{SERVICES}/given"));
        let mut again = service("given");
        again["spec"] = json!({
            "type": "NodePort",
            "clusterIP": mine["spec"]["clusterIP"],
            "ports": [{"port": 80, "nodePort": mine["spec"]["ports"][0]["nodePort"]}],
        });
        other.post(SERVICES, &again).good();
        other.delete(&format!("{SERVICES}/given"));
    }
}

/// How often the servers moved the clock of compactions on, for a while, and a revision from its beginning.
fn compactions(etcd: &Etcd) -> u64 {
    const TICKS: u32 = 6;
    let version = || {
        etcd.get_at(COMPACT_KEY, 0)
            .unwrap()
            .map_or(0, |stored| stored.version)
    };
    let (start, began, revision) = (version(), Instant::now(), etcd.revision().unwrap());
    thread::sleep(COMPACTION * TICKS);
    let moved = version() - start;
    let ticks = began.elapsed().as_secs_f64() / COMPACTION.as_secs_f64();
    // Whoever is second in an interval must not move it again.
    assert!(
        moved as f64 <= ticks + 1.5,
        "{moved} compactions in {ticks:.1} intervals"
    );
    assert!(
        moved as f64 >= ticks / 2.0 - 1.0,
        "{moved} compactions in {ticks:.1} intervals"
    );
    revision
}

fn old_is_forgotten_and_young_is_not(etcd: &Etcd, old: u64) {
    let error = etcd.get_at(COMPACT_KEY, old).unwrap_err().to_string();
    assert!(error.contains("compacted"), "{error}");
    etcd.get_at(COMPACT_KEY, etcd.revision().unwrap()).unwrap();
}
