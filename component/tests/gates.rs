//! `docs/gates.tsv`: where each feature gate is implemented, and how far.
//!
//! One row per gate that is on by default, and per gate that is off and that something here reads. `part` and `missing`
//! say what is not there; `nothing` says why there is nothing to do, such as an inner matter of Go's client. `done`
//! speaks of the gate as it is by default: what is on and done is not always taken away when the gate is turned off.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::path::Path;

use proto::catalogue::{Gate, GateStage, gates};

const TABLE: &str = include_str!("../../docs/gates.tsv");
const HEAD: &str = "# gate\tstage\tdaemons\troom\tstate\tnote";
const STATES: [&str; 4] = ["done", "part", "missing", "nothing"];
const DAEMONS: [&str; 6] = [
    "all",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
];
/// An empty cell.
const NONE: &str = "-";

struct Row {
    gate: &'static str,
    stage: &'static str,
    daemons: &'static str,
    room: &'static str,
    state: &'static str,
    note: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let cells: Vec<&'static str> = line.split('\t').collect();
            let [gate, stage, daemons, room, state, note] = cells[..] else {
                panic!("not six cells: {line}");
            };
            Row {
                gate,
                stage,
                daemons,
                room,
                state,
                note,
            }
        })
        .collect()
}

fn find(name: &str) -> Option<&'static Gate> {
    gates().iter().find(|gate| gate.name == name)
}

fn text(stage: GateStage) -> &'static str {
    match stage {
        GateStage::Alpha => "Alpha",
        GateStage::Beta => "Beta",
        GateStage::Stable => "Stable",
        GateStage::Deprecated => "Deprecated",
    }
}

/// What the API server's rules name as `gate::A_FEATURE`, without the underscores.
fn asked(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            asked(&path, into);
        } else if path.extension().is_some_and(|of| of == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("gate::").skip(1).map(|rest| {
                let end =
                    rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
                rest[..end.unwrap_or(rest.len())].replace('_', "")
            });
            into.extend(names.filter(|name| !name.is_empty()));
        }
    }
}

#[test]
fn every_gate_that_the_api_server_asks_has_a_row() {
    let mut names = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["apiserver/src", "apiserver/resources/src"] {
        asked(&root.join(dir), &mut names);
    }
    assert!(names.len() > 50, "{names:?}");
    let rows: BTreeSet<String> = rows().iter().map(|r| r.gate.to_uppercase()).collect();
    let without: Vec<_> = names.difference(&rows).collect();
    assert!(without.is_empty(), "gates without rows: {without:?}");
}

#[test]
fn columns_have_names() {
    assert_eq!(TABLE.lines().next(), Some(HEAD));
}

#[test]
fn every_gate_that_is_on_by_default_has_exactly_one_row() {
    let rows = rows();
    let wrong: Vec<_> = gates()
        .iter()
        .filter(|gate| gate.now().is_some_and(|spec| spec.default))
        .map(|gate| {
            let found = rows.iter().filter(|row| row.gate == gate.name);
            (gate.name, found.count())
        })
        .filter(|(_, count)| *count != 1)
        .collect();
    assert!(wrong.is_empty(), "rows of gates: {wrong:?}");
}

#[test]
fn rows_are_sorted_and_name_gates_with_their_stages() {
    let rows = rows();
    for pair in rows.windows(2) {
        let (first, second) = (pair[0].gate, pair[1].gate);
        assert!(first < second, "{second} comes after {first}");
    }
    for row in &rows {
        let spec = find(row.gate).and_then(Gate::now);
        let stage = spec.map(|spec| text(spec.stage));
        assert_eq!(stage, Some(row.stage), "{}", row.gate);
    }
}

#[test]
fn rooms_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for row in rows().iter().filter(|row| row.room != NONE) {
        let room = Path::new(row.room);
        assert!(room.is_relative(), "{}: {}", row.gate, row.room);
        assert!(root.join(room).exists(), "{}: {}", row.gate, row.room);
    }
}

#[test]
fn what_is_there_has_a_room_and_what_is_not_is_told() {
    for row in rows() {
        let Row { gate, state, .. } = row;
        assert!(STATES.contains(&state), "{gate}: {state}");
        for daemon in row.daemons.split(',') {
            assert!(DAEMONS.contains(&daemon), "{gate}: {daemon}");
        }
        let in_a_room = row.room != NONE;
        match state {
            "done" | "part" => assert!(in_a_room, "{gate} is {state}, but where?"),
            "missing" => assert!(!in_a_room, "{gate} is missing, but has a room"),
            _ => {}
        }
        let told = !row.note.is_empty() && row.note != NONE;
        assert!(told || state == "done", "{gate} is {state}, but why?");
    }
}
