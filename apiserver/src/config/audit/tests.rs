use super::*;

const HOOK: &str = "--audit-webhook-config-file=/x";

fn config(line: &[&str]) -> anyhow::Result<AuditConfig> {
    let args = Args::parse("kube-apiserver", "", &[group()], line.iter().copied());
    AuditConfig::from_args(&args.unwrap())
}

#[test]
fn defaults_are_upstreams() {
    assert!(config(&[]).unwrap().log.is_none());
    let log = config(&["--audit-log-path=-"]).unwrap().log.unwrap();
    let delivery = log.delivery;
    assert_eq!((log.path, log.legacy), (None, false));
    assert_eq!(delivery.max_event, None);
    assert!(matches!(delivery.mode, Mode::Blocking { strict: false }));
    let r = log.rotation;
    assert_eq!(
        (r.max_size, r.max_age, r.max_backups, r.compress),
        (100 << 20, 366, 100, false)
    );
    let batch = ["--audit-log-path=/log", "--audit-log-mode=batch"];
    let log = config(&batch).unwrap().log.unwrap();
    let Mode::Batch(batch) = log.delivery.mode else {
        panic!("batches were asked for")
    };
    assert_eq!((batch.buffer, batch.max_size), (10_000, 1));
    assert!(batch.throttle.is_none());

    assert!(config(&[]).unwrap().webhook.is_none());
    let webhook = config(&[HOOK]).unwrap().webhook.unwrap();
    assert_eq!(webhook.initial_backoff, Duration::from_secs(10));
    let Mode::Batch(batch) = webhook.delivery.mode else {
        panic!("batches go without saying")
    };
    assert_eq!((batch.buffer, batch.max_size), (10_000, 400));
    assert_eq!(batch.max_wait, Duration::from_secs(30));
    let throttle = batch.throttle.unwrap();
    assert_eq!((throttle.qps, throttle.burst), (10.0, 15));
    let older = [HOOK, "--audit-webhook-batch-initial-backoff=3s"];
    let webhook = config(&older).unwrap().webhook.unwrap();
    assert_eq!(webhook.initial_backoff, Duration::from_secs(3));
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
}

#[test]
fn a_webhooks_flags_are_checked_as_the_logs_are() {
    for (flag, why) in [
        (
            "--audit-webhook-mode=fast",
            "invalid audit webhook mode fast, allowed modes are \"batch,blocking,blocking-strict\"",
        ),
        (
            "--audit-webhook-version=audit.k8s.io/v1beta1",
            "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]",
        ),
        (
            "--audit-webhook-batch-max-size=0",
            "invalid audit batch webhook max batch size 0, must be a positive number",
        ),
        (
            "--audit-webhook-batch-throttle-burst=0",
            "invalid audit batch webhook throttle burst 0, must be a positive number",
        ),
        (
            "--audit-webhook-truncate-max-batch-size=1",
            "invalid audit truncate webhook max batch size 1, must be greater than max event size (102400)",
        ),
    ] {
        let error = config(&[HOOK, flag]).unwrap_err().to_string();
        assert_eq!(error, why);
        assert!(config(&[flag]).is_ok(), "{flag}");
    }
    let blocking = config(&[HOOK, "--audit-webhook-mode=blocking-strict"]).unwrap();
    let mode = blocking.webhook.unwrap().delivery.mode;
    assert!(matches!(mode, Mode::Blocking { strict: true }));
}
