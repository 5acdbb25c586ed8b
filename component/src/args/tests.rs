use super::*;

use std::time::Duration;

const NAMES: Flag<Vec<String>> = Flag::new("names", "a,b", "Names.");
const OLD: Flag<bool> = Flag::new("old", "false", "Old.").deprecated("use --names");
const GONE: Flag<String> = Flag::new("gone", "", "Gone.").ignored("nothing needs it");

fn parse(line: &[&str]) -> Result<Args, Error> {
    let groups = [
        secure_serving(),
        leader_election(),
        logs(),
        global(),
        Group::new("Test", &[&NAMES, &OLD, &GONE]).with_default(&NAMES, "c"),
    ];
    Args::parse(
        "kube-test",
        "A test.",
        &groups,
        line.iter().map(ToString::to_string),
    )
}

fn refused(line: &[&str]) -> String {
    parse(line).err().unwrap().to_string()
}

#[test]
fn values_come_after_an_equals_sign_or_a_space_and_the_last_scalar_wins() {
    let args = parse(&[
        "--secure-port=1",
        "--secure-port",
        "10259",
        "-v=4",
        "--leader-elect-lease-duration",
        "1m30s",
    ])
    .unwrap();
    assert_eq!(args.get(&SECURE_PORT), 10259);
    assert_eq!(args.get(&VERBOSITY), 4);
    assert_eq!(
        args.get(&LEADER_ELECT_LEASE_DURATION),
        Duration::from_secs(90)
    );
    assert_eq!(args.given(&LEADER_ELECT_RETRY_PERIOD), None);
    assert_eq!(args.get(&LEADER_ELECT_RETRY_PERIOD), Duration::from_secs(2));
}

#[test]
fn a_bare_switch_is_true_and_takes_its_value_only_after_an_equals_sign() {
    assert!(!parse(&["--leader-elect=false"]).unwrap().get(&LEADER_ELECT));
    assert!(
        parse(&["--leader-elect=F", "--leader-elect"])
            .unwrap()
            .get(&LEADER_ELECT)
    );
    assert_eq!(
        refused(&["--leader-elect", "false"]),
        "\"kube-test\" does not take any arguments, got \"false\""
    );
    assert_eq!(
        parse(&["--version=raw"]).unwrap().get(&VERSION),
        Version::Raw
    );
    assert_eq!(parse(&["--version"]).unwrap().get(&VERSION), Version::Short);
}

#[test]
fn underscores_in_names_are_dashes() {
    let args = parse(&["--leader_elect_resource_name=a_b", "--tls_cert_file", "c_d"]).unwrap();
    assert_eq!(args.get(&LEADER_ELECT_RESOURCE_NAME), "a_b");
    assert_eq!(args.get(&TLS_CERT_FILE).unwrap().to_str(), Some("c_d"));
}

#[test]
fn lists_grow_and_a_group_has_defaults_of_its_own() {
    assert_eq!(parse(&[]).unwrap().get(&NAMES), ["c"]);
    assert_eq!(
        parse(&["--names=x,\"y,z\"", "--names=w"])
            .unwrap()
            .get(&NAMES),
        ["x", "y,z", "w"]
    );
}

#[test]
fn a_value_that_begins_with_a_dash_is_a_value() {
    assert_eq!(
        parse(&["--leader-elect-resource-name", "-x"])
            .unwrap()
            .get(&LEADER_ELECT_RESOURCE_NAME),
        "-x"
    );
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    assert_eq!(
        refused(&["--secure-prt=1"]),
        "unknown flag: --secure-prt, did you mean --secure-port?"
    );
    assert_eq!(refused(&["--xyzzy"]), "unknown flag: --xyzzy");
    assert_eq!(
        refused(&["--secure-port"]),
        "flag needs an argument: --secure-port"
    );
    let both = refused(&["--secure-port=x", "--leader-elect-retry-period=5"]);
    assert!(
        both.contains("invalid argument \"x\" for \"--secure-port\" flag"),
        "{both}"
    );
    assert!(
        both.contains("\"--leader-elect-retry-period\" flag: time: missing unit"),
        "{both}"
    );
    assert!(refused(&["--secure-port=70000"]).contains("value out of range"));
    for line in [
        &["--secure-port=x"][..],
        &["--nope"],
        &["--secure-port"],
        &["stray"],
        &["-q"],
    ] {
        assert_eq!(refused(line).lines().count(), 1, "{line:?}");
    }
}

#[test]
fn flags_without_effect_are_accepted_and_say_why() {
    let args = parse(&["--gone=x", "--vmodule=a=2", "--old"]).unwrap();
    assert_eq!(args.warnings().len(), 3, "{:?}", args.warnings());
    assert!(
        args.warnings()
            .iter()
            .any(|w| w == "flag --gone is ignored: nothing needs it")
    );
    assert!(args.get(&OLD));
}

#[test]
fn help_has_the_flags_under_their_titles() {
    let Err(Error::Help(help)) = parse(&["--help"]) else {
        panic!("help was asked for")
    };
    assert!(
        help.contains("Leader election") && help.contains("--leader-elect-lease-duration"),
        "{help}"
    );
    assert!(!help.contains("--gone"), "{help}");
}

/// Reading any of these before it is given must not panic.
#[test]
fn the_defaults_of_all_flags_are_of_their_types() {
    let groups = [
        secure_serving(),
        delegated_authentication(),
        delegated_authorization(),
        client_connection(),
        leader_election(),
        logs(),
        metrics(),
        debugging(),
        global(),
    ];
    for (group, flag) in groups
        .iter()
        .flat_map(|g| g.flags.iter().map(move |f| (g, f)))
    {
        let facts = flag.facts();
        let default = group.default_of(&facts);
        let given: Vec<String> = if default.is_empty() {
            vec![]
        } else {
            vec![default.to_owned()]
        };
        assert_eq!(flag.check(&given), Ok(()), "--{}", facts.name);
    }
}
