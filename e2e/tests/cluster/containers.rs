//! What becomes of containers that end, use too much, or do not answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use serde_json::json;

use super::fixture::{SOON, eventually, shell};
use super::load::page;
use super::serving::CLUSTER;

const CONTAINER: &str = ".status.containerStatuses[0]";

#[test]
fn a_container_that_ends_is_started_again_and_later_each_time() {
    let ns = CLUSTER.namespace("crash");
    ns.apply(&shell("crash", "echo run; exit 3"));
    let reason = format!("{CONTAINER}.state.waiting.reason");
    ns.wait_for("pod/crash", &reason, "CrashLoopBackOff");
    let code = format!("{CONTAINER}.lastState.terminated.exitCode");
    ns.wait_for("pod/crash", &code, "3");
    eventually(SOON, || {
        let count = ns.try_kubectl(&[
            "get",
            "pod/crash",
            "-ojsonpath={.status.containerStatuses[0].restartCount}",
        ])?;
        (count.parse::<u32>().unwrap_or(0) >= 2)
            .then_some(())
            .ok_or(count)
    });
    assert_eq!(ns.kubectl(&["logs", "crash", "--previous"]), "run\n");
    eventually(SOON, || {
        let events = ns.try_kubectl(&["get", "events", "-ojsonpath={.items[*].reason}"])?;
        ["Scheduled", "Pulled", "Created", "Started", "BackOff"]
            .iter()
            .all(|reason| events.contains(reason))
            .then_some(())
            .ok_or(events)
    });
}

#[test]
fn a_pod_that_is_not_restarted_says_how_it_ended() {
    let ns = CLUSTER.namespace("ends");
    for (name, script, phase, code) in [
        ("good", "exit 0", "Succeeded", "0"),
        (
            "bad",
            "echo why > /dev/termination-log; exit 4",
            "Failed",
            "4",
        ),
    ] {
        let mut pod = shell(name, script);
        pod["spec"]["restartPolicy"] = "Never".into();
        ns.apply(&pod);
        let object = format!("pod/{name}");
        ns.wait_for(&object, ".status.phase", phase);
        ns.wait_for(
            &object,
            &format!("{CONTAINER}.state.terminated.exitCode"),
            code,
        );
    }
    ns.wait_for(
        "pod/bad",
        &format!("{CONTAINER}.state.terminated.message"),
        "why\n",
    );
}

#[test]
fn a_container_that_uses_more_memory_than_it_may_is_killed() {
    let ns = CLUSTER.namespace("oom");
    // A variable that doubles: memory that the kernel cannot take back.
    let mut pod = shell("oom", "x=0123456789abcdef; while true; do x=$x$x; done");
    pod["spec"]["restartPolicy"] = "Never".into();
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "24Mi"}});
    ns.apply(&pod);
    ns.wait_for("pod/oom", ".status.phase", "Failed");
    ns.wait_for(
        "pod/oom",
        &format!("{CONTAINER}.state.terminated.reason"),
        "OOMKilled",
    );
    ns.wait_for(
        "pod/oom",
        &format!("{CONTAINER}.state.terminated.exitCode"),
        "137",
    );
}

#[test]
fn a_pod_serves_only_while_its_readiness_probe_succeeds() {
    let ns = CLUSTER.namespace("ready");
    let mut pod = shell("ready", "sleep 1000");
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    ns.apply(&pod);
    ns.kubectl(&["expose", "pod", "ready", "--port=80"]);
    ns.wait_for("pod/ready", ".status.phase", "Running");
    let serving = "-ojsonpath={.items[*].endpoints[*].conditions.ready}";
    let is = |wanted: &str| {
        eventually(SOON, || {
            let ready = ns.try_kubectl(&["get", "endpointslices", serving])?;
            (ready == wanted).then_some(()).ok_or(ready)
        });
    };
    is("false");
    ns.kubectl(&["exec", "ready", "--", "touch", "/tmp/ready"]);
    is("true");
    ns.kubectl(&["exec", "ready", "--", "rm", "/tmp/ready"]);
    is("false");
    ns.wait_for("pod/ready", &format!("{CONTAINER}.restartCount"), "0");
}

#[test]
fn a_container_that_is_not_alive_is_restarted() {
    let ns = CLUSTER.namespace("alive");
    let mut pod = shell("alive", "touch /tmp/alive; sleep 1000");
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 2});
    ns.apply(&pod);
    ns.wait_for("pod/alive", ".status.phase", "Running");
    ns.kubectl(&["exec", "alive", "--", "rm", "/tmp/alive"]);
    ns.wait_for("pod/alive", &format!("{CONTAINER}.restartCount"), "1");
    ns.wait_for("pod/alive", &format!("{CONTAINER}.ready"), "true");
    let events = ns.kubectl(&["get", "events", "-ojsonpath={.items[*].reason}"]);
    assert!(
        events.contains("Unhealthy") && events.contains("Killing"),
        "{events}"
    );
}

#[test]
fn containers_start_in_order_with_what_they_were_given() {
    let ns = CLUSTER.namespace("given");
    ns.kubectl(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=green",
    ]);
    ns.kubectl(&[
        "create",
        "secret",
        "generic",
        "token",
        "--from-literal=word=hidden",
    ]);
    let mut pod = shell(
        "given",
        "cat /shared/first /settings/colour /token/word; echo; echo $COLOUR $WORD $NAME; cat /info/labels",
    );
    let image = "navarch.local/busybox:1";
    pod["spec"]["restartPolicy"] = "Never".into();
    pod["spec"]["initContainers"] = json!([
        {"name": "first", "image": image, "command": ["sh", "-c", "echo one > /shared/first"],
         "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
        {"name": "side", "image": image, "command": ["sh", "-c", "trap 'exit 0' TERM; cat /shared/first; sleep 1000 & wait"], "restartPolicy": "Always",
         "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
    ]);
    pod["spec"]["volumes"] = json!([
        {"name": "shared", "emptyDir": {"medium": "Memory"}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "token", "secret": {"secretName": "token"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]);
    let main = &mut pod["spec"]["containers"][0];
    main["env"] = json!([
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "token", "key": "word"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    main["volumeMounts"] = json!([
        {"name": "shared", "mountPath": "/shared"},
        {"name": "settings", "mountPath": "/settings"},
        {"name": "token", "mountPath": "/token"},
        {"name": "info", "mountPath": "/info"},
    ]);
    ns.apply(&pod);
    ns.wait_for("pod/given", ".status.phase", "Succeeded");
    assert_eq!(
        ns.kubectl(&["logs", "given", "-c", "main"]),
        "one\ngreenhidden\ngreen hidden given\napp=\"given\""
    );
    assert_eq!(ns.kubectl(&["logs", "given", "-c", "side"]), "one\n");
}

#[test]
fn logs_follow_and_files_are_copied() {
    let ns = CLUSTER.namespace("copy");
    ns.apply(&shell(
        "copy",
        "echo begin; while [ ! -e /tmp/end ]; do sleep 0.1; done; cat /tmp/end; sleep 1; exit 0",
    ));
    ns.wait_for("pod/copy", ".status.phase", "Running");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("end");
    std::fs::write(&file, "the end\n").unwrap();
    std::thread::scope(|scope| {
        let follow = scope.spawn(|| ns.kubectl(&["logs", "copy", "--follow", "--tail=10"]));
        eventually(SOON, || {
            let logs = ns.try_kubectl(&["logs", "copy"])?;
            (logs == "begin\n").then_some(()).ok_or(logs)
        });
        let from = file.to_string_lossy();
        // Without tar in the image, copying is what exec does with its input.
        let text = std::fs::read_to_string(&file).unwrap();
        ns.kubectl_with_input(
            &[
                "exec",
                "-i",
                "copy",
                "--",
                "sh",
                "-c",
                "cat > /tmp/new && mv /tmp/new /tmp/end",
            ],
            &text,
        )
        .unwrap_or_else(|error| panic!("{from}: {error}"));
        assert_eq!(follow.join().unwrap(), "begin\nthe end\n");
    });
    ns.apply(&shell("files", "sleep 1000"));
    ns.kubectl(&[
        "wait",
        "pod/files",
        "--for=condition=Ready",
        "--timeout=90s",
    ]);
    let from = file.to_string_lossy();
    ns.kubectl(&["cp", &from, "files:/tmp/copied"]);
    assert_eq!(
        ns.kubectl(&["exec", "files", "--", "cat", "/tmp/copied"]),
        "the end\n"
    );
    let back = dir.path().join("back");
    ns.kubectl(&["cp", "files:/tmp/copied", &back.to_string_lossy()]);
    assert_eq!(std::fs::read_to_string(back).unwrap(), "the end\n");
}

#[test]
fn a_port_of_a_pod_is_reached_from_here() {
    let ns = CLUSTER.namespace("forward");
    let mut pod = shell("forward", "");
    pod["spec"]["containers"][0] =
        json!({"name": "web", "image": "navarch.local/web:1", "imagePullPolicy": "IfNotPresent"});
    ns.apply(&pod);
    ns.kubectl(&[
        "wait",
        "pod/forward",
        "--for=condition=Ready",
        "--timeout=90s",
    ]);
    let mut forward = Command::new(CLUSTER.spec.tools.join("kubectl"))
        .arg(format!(
            "--kubeconfig={}",
            CLUSTER.cluster.kubeconfig().display()
        ))
        .args([
            "--namespace=forward",
            "port-forward",
            "--address=127.0.0.1",
            "pod/forward",
            ":8080",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // "Forwarding from 127.0.0.1:41234 -> 8080"
    let mut first = String::new();
    let mut out = std::io::BufReader::new(forward.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    let port = first
        .split([':', ' '])
        .find_map(|word| word.parse::<u16>().ok());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap()));
    let pages: Vec<_> = (0..5).map(|_| page(address)).collect();
    forward.kill().unwrap();
    forward.wait().unwrap();
    for page in pages {
        assert_eq!(page.unwrap(), "Hello from pod forward on somewhere.\n");
    }
}

#[test]
fn a_command_is_as_confined_as_its_container() {
    let ns = CLUSTER.namespace("confined");
    let mut pod = shell("confined", "sleep 1000");
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "runAsUser": 1000,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    ns.apply(&pod);
    ns.kubectl(&[
        "wait",
        "pod/confined",
        "--for=condition=Ready",
        "--timeout=90s",
    ]);
    let fields = |process: &str| {
        let file = format!("/proc/{process}/status");
        let status = ns.kubectl(&["exec", "confined", "--", "cat", &file]);
        let kept = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp"];
        let lines = status
            .lines()
            .filter(|line| kept.iter().any(|k| line.starts_with(k)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (container, command) = (fields("1"), fields("self"));
    assert_eq!(container, command);
    assert!(
        container.contains(&"Seccomp:\t2".to_owned()),
        "{container:?}"
    );
}
