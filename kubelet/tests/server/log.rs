//! Container logs and the node's log files.

use kubelet::runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{ask_as, connect, get, send, unchunk};
use crate::node::LIMIT;
use crate::setup::Setup;

#[tokio::test]
async fn logs_are_read_in_part_and_whole() {
    let setup = Setup::start().await;
    let id = setup.run("main", "seq 1 1000; echo oops >&2").await;
    setup.node.exited(&id).await;
    let log = async |query: &str| get(&setup, &format!("/containerLogs/ns/web/main?{query}")).await;
    let all = log("").await;
    assert_eq!(all.status, 200);
    assert_eq!(all.body.lines().count(), 1001);
    assert_eq!(all.headers["transfer-encoding"], "chunked");
    assert_eq!(log("tailLines=2").await.body, "1000\noops\n");
    assert_eq!(log("limitBytes=3").await.body, "1\n2");
    assert_eq!(log("stream=Stderr").await.body, "oops\n");
    assert_eq!(log("tailLines=x").await.status, 400);
    assert_eq!(log("limitBytes=0").await.status, 422);
    let stamped = log("tailLines=1&timestamps=true").await.body;
    let (time, rest) = stamped.split_once(' ').unwrap();
    assert_eq!((time.len(), rest), (30, "oops\n"));
    let none = get(&setup, "/containerLogs/ns/web/none").await;
    assert_eq!(
        (none.status, none.body.as_str()),
        (404, "container \"none\" not found in pod \"web\"")
    );
    let none = get(&setup, "/containerLogs/ns/none/main").await;
    assert_eq!(
        (none.status, none.body.as_str()),
        (404, "pod \"none\" does not exist")
    );
    let previous = log("previous=true").await;
    assert_eq!(previous.status, 400);
    assert_eq!(
        previous.body,
        "previous terminated container \"main\" in pod \"web\" not found"
    );
}

#[tokio::test]
async fn a_log_is_followed_through_rotation_until_the_container_ends() {
    let setup = Setup::start().await;
    let mut config = setup
        .node
        .shell("read go; seq 1 30000; read end; echo last");
    config.stdin = true;
    config.log_max_size = 200_000;
    // All are kept: what a slow reader loses to rotation is lost with upstream, too.
    config.log_max_files = 100;
    let id = setup.run_as("main", config).await;
    let mut io = connect(&setup, Some(&setup.ca.admin())).await;
    let path = "/containerLogs/ns/web/main?follow=true";
    let (status, _) = send(&mut io, "GET", path, &[("Connection", "close")]).await;
    assert_eq!(status, 200);
    let session = setup.node.runtime().attach(&id, true).await.unwrap();
    let mut stdin = session.stdin.unwrap();
    drop((session.stdout, session.stderr));
    stdin.write_all(b"go\nend\n").await.unwrap();
    let mut body = Vec::new();
    let read = io.read_to_end(&mut body);
    let _ = tokio::time::timeout(LIMIT, read).await.unwrap();
    let text = String::from_utf8(unchunk(&body)).unwrap();
    let mut expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    expected.push_str("last\n");
    assert!(
        text == expected,
        "{} of {} bytes",
        text.len(),
        expected.len()
    );
    assert_eq!(setup.node.exited(&id).await.exit_code, 0);
}

#[tokio::test]
async fn the_nodes_log_files_are_served_and_nothing_else() {
    let setup = Setup::start().await;
    let logs = setup.node.root.path().join("logs");
    std::fs::write(logs.join("sys<log"), "0123456789").unwrap();
    std::fs::create_dir_all(logs.join("dir")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", logs.join("out")).unwrap();
    let list = get(&setup, "/logs/").await;
    assert!(
        list.body.contains("<a href=\"dir/\">dir/</a>\n"),
        "{}",
        list.body
    );
    assert!(list.body.contains(">sys&lt;log</a>"), "{}", list.body);
    assert_eq!(get(&setup, "/logs/sys%3Clog").await.body, "0123456789");
    let admin = setup.ca.admin();
    let part = ask_as(
        &setup,
        Some(&admin),
        "GET",
        "/logs/sys%3Clog",
        &[("Range", "bytes=2-4")],
    )
    .await;
    assert_eq!((part.status, part.body.as_str()), (206, "234"));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    assert_eq!(get(&setup, "/logs/dir").await.headers["location"], "dir/");
    assert_eq!(get(&setup, "/logs/out").await.status, 403);
    assert_eq!(get(&setup, "/logs/..%2f..%2fetc/passwd").await.status, 404);
    assert_eq!(get(&setup, "/logs/none").await.status, 404);
}
