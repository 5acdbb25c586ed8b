use super::*;

fn config(line: &[&str]) -> anyhow::Result<AuditConfig> {
    let args = Args::parse("kube-apiserver", "", &[group()], line.iter().copied());
    AuditConfig::from_args(&args.unwrap())
}

#[test]
fn defaults_are_upstreams() {
    assert!(config(&[]).unwrap().log.is_none());
    let log = config(&["--audit-log-path=-"]).unwrap().log.unwrap();
    assert_eq!((log.path, log.legacy, log.max_event), (None, false, None));
    assert!(matches!(log.mode, Mode::Blocking { strict: false }));
    let r = log.rotation;
    assert_eq!(
        (r.max_size, r.max_age, r.max_backups, r.compress),
        (100 << 20, 366, 100, false)
    );
    let batch = ["--audit-log-path=/log", "--audit-log-mode=batch"];
    let Mode::Batch(batch) = config(&batch).unwrap().log.unwrap().mode else {
        panic!("batches were asked for")
    };
    assert_eq!((batch.buffer, batch.max_size), (10_000, 1));
    assert!(batch.throttle.is_none());
}

#[test]
fn what_makes_no_sense_is_refused_in_upstreams_words() {
    let refused = |line: &[&str], why: &str| {
        let with_path = [&["--audit-log-path=-"], line].concat();
        let error = config(&with_path).unwrap_err().to_string();
        assert!(error.contains(why), "{line:?}: {error}");
        // Of a log that is not used nothing is checked.
        assert!(config(line).is_ok(), "{line:?}");
    };
    refused(
        &["--audit-log-mode=fast"],
        "invalid audit log mode fast, allowed modes are \"batch,blocking,blocking-strict\"",
    );
    refused(
        &["--audit-log-format=xml"],
        "invalid audit log format xml, allowed formats are \"legacy,json\"",
    );
    refused(
        &["--audit-log-version=audit.k8s.io/v1beta1"],
        "invalid group version",
    );
    refused(
        &["--audit-log-maxage=-1"],
        "--audit-log-maxage -1 can't be a negative number",
    );
    let batch = "--audit-log-mode=batch";
    refused(
        &[batch, "--audit-log-batch-buffer-size=0"],
        "invalid audit batch log buffer size 0, must be a positive number",
    );
    refused(
        &[batch, "--audit-log-batch-throttle-enable"],
        "invalid audit batch log throttle QPS 0, must be a positive number",
    );
    refused(
        &["--audit-log-truncate-max-event-size=0"],
        "invalid audit truncate log max event size 0, must be a positive number",
    );
    refused(
        &["--audit-log-truncate-max-batch-size=1"],
        "invalid audit truncate log max batch size 1, must be greater than max event size (102400)",
    );
    // Whatever else is given.
    let webhook = config(&["--audit-webhook-config-file=/x"]).unwrap_err();
    assert!(webhook.to_string().contains("is not supported yet"));
}
