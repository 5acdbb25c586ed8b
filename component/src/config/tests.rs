use super::*;
use serde::Deserialize;

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Demo {
    leader_election: LeaderElection,
    client_connection: ClientConnection,
    profiles: Vec<Profile>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    scheduler_name: String,
}

impl Versioned for Demo {
    const API_VERSIONS: &'static [&'static str] = &["demo.config.k8s.io/v1"];
    const KIND: &'static str = "DemoConfiguration";
}

fn demo(body: &str) -> Result<Demo, Unplaced> {
    read(format!("apiVersion: demo.config.k8s.io/v1\nkind: DemoConfiguration\n{body}").as_bytes())
}

#[test]
fn a_file_sets_what_it_names_and_leaves_the_defaults() {
    let read =
        demo("leaderElection:\n  leaseDuration: 1m30s\nprofiles:\n- schedulerName: x\n").unwrap();
    assert_eq!(read.leader_election.lease_duration, Duration::from_secs(90));
    assert_eq!(read.leader_election.renew_deadline, Duration::from_secs(10));
    assert_eq!(read.client_connection.burst, 100);
    assert_eq!(read.profiles[0].scheduler_name, "x");
}

#[test]
fn every_unknown_field_is_reported_by_its_path() {
    let refused =
        demo("leaderElection:\n  leaseDurration: 15s\nprofiles:\n- schedulerNam: x\nfoo: 1\n");
    let text = refused.unwrap_err().to_string();
    for path in [
        "leaderElection.leaseDurration",
        "profiles.0.schedulerNam",
        "foo",
    ] {
        assert!(
            text.contains(&format!("{path}: unknown field")),
            "{path} in {text}"
        );
    }
}

#[test]
fn a_wrong_type_is_reported_by_its_path() {
    let text = demo("leaderElection:\n  leaseDuration: soon\n")
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("leaderElection.leaseDuration: time: invalid duration"),
        "{text}"
    );
}

#[test]
fn another_kind_or_version_is_refused() {
    let text = read::<Demo>(b"{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("apiVersion: must be one of demo.config.k8s.io/v1"),
        "{text}"
    );
    assert!(text.contains("kind: must be DemoConfiguration"), "{text}");
}

#[test]
fn lease_times_that_cannot_work_are_all_reported() {
    let mut election = LeaderElection::named("x");
    election.lease_duration = Duration::from_secs(5);
    election.retry_period = Duration::from_secs(9);
    election.resource_lock = "endpoints".into();
    let mut problems = Problems::new();
    election.validate("leaderElection", &mut problems);
    assert_eq!(problems.iter().count(), 3, "{problems}");
}
