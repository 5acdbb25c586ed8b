use super::*;

#[test]
fn a_counter_has_its_full_name_in_the_classic_form() {
    let metrics = Metrics::new();
    metrics.requests().answered(
        Some(200),
        "GET",
        "127.0.0.1:6443",
        std::time::Duration::from_millis(30),
    );
    let (kind, text) = metrics.answer("text/plain");
    assert_eq!(kind, TEXT);
    assert!(
        text.contains("# TYPE rest_client_requests_total counter\n"),
        "{text}"
    );
    assert!(text.contains(
        "rest_client_requests_total{code=\"200\",method=\"GET\",host=\"127.0.0.1:6443\"} 1\n"
    ));
    assert!(
        text.contains("rest_client_request_duration_seconds_bucket{le=\"0.1\",verb=\"GET\""),
        "{text}"
    );
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    let (kind, text) = metrics.answer("application/openmetrics-text;version=1.0.0");
    assert_eq!(kind, OPENMETRICS);
    assert!(text.contains("# TYPE rest_client_requests counter\n") && text.ends_with("# EOF\n"));
}

#[test]
fn a_counter_that_upstream_does_not_call_total_keeps_its_name_in_the_classic_form() {
    let metrics = Metrics::new();
    let name = "apiserver_admission_webhook_fail_open_count";
    let counted = metrics.registered(name, "Help", Counters::<1>::default());
    counted.get_or_create(&[("name", "a".to_owned())]).inc();
    let (_, text) = metrics.answer("");
    let family = format!("# HELP {name} Help.\n# TYPE {name} counter\n{name}{{name=\"a\"}} 1\n");
    assert!(text.contains(&family), "{text}");
    let (_, text) = metrics.answer("application/openmetrics-text");
    assert!(
        text.contains(&format!("\n{name}_total{{name=\"a\"}} 1\n")),
        "{text}"
    );
}

#[test]
fn the_process_is_described() {
    let (_, text) = Metrics::new().answer("");
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|l| l.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    let age = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        - value("process_start_time_seconds");
    assert!((-2.0..3600.0).contains(&age), "{age}");
}

#[test]
fn a_disabled_metric_is_left_out() {
    let metrics = Metrics::without(vec!["workqueue_adds_total".into()]);
    metrics.queues().of("x").adds.inc();
    assert!(!metrics.answer("").1.contains("workqueue_adds"));
}
