//! Exec, attach, terminals, port forwarding.

use std::time::{Duration, Instant};

use kubelet::runtime::stream::TerminalSize;
use kubelet::runtime::{ContainerState, Error, ExecRequest, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{LIMIT, Node};

fn sh(script: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), script.into()]
}

#[tokio::test]
async fn exec_sync_collects_output_and_exit_code() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let output = node
        .runtime()
        .exec_sync(&id, sh("echo out; echo err >&2; exit 5"), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        (output.stdout, output.stderr, output.exit_code),
        (b"out\n".into(), b"err\n".into(), 5)
    );
    let output = node
        .runtime()
        .exec_sync(&id, sh("kill -9 $$"), LIMIT)
        .await
        .unwrap();
    assert_eq!(output.exit_code, 137);
    let output = node
        .runtime()
        .exec_sync(&id, sh("seq 1 100000"), LIMIT)
        .await
        .unwrap();
    assert_eq!(output.stdout.len(), 588_895);
}

#[tokio::test]
async fn a_command_that_cannot_run_says_why() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let failed = node
        .runtime()
        .exec_sync(&id, vec!["nosuch".into()], LIMIT)
        .await;
    let expected = r#"exec: "nosuch": executable file not found in $PATH"#;
    assert!(
        matches!(&failed, Err(Error::Start(text)) if text == expected),
        "{failed:?}"
    );
}

#[tokio::test]
async fn what_a_command_left_behind_is_not_waited_for() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let output = node
        .runtime()
        .exec_sync(&id, sh("sleep 1000 & echo done"), LIMIT)
        .await
        .unwrap();
    assert_eq!(output.stdout, b"done\n");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let timed_out = node
        .runtime()
        .exec_sync(&id, sh("sleep 999 & sleep 999"), limit)
        .await;
    assert!(matches!(timed_out, Err(Error::Timeout(_))));
    assert!(start.elapsed() < Duration::from_secs(10));
    let left = "ps -o args | grep -c '[s]leep 999' || true";
    let deadline = Instant::now() + LIMIT;
    while node.exec(&id, left).await != "0\n" {
        assert!(Instant::now() < deadline, "the command is still there");
    }
}

#[tokio::test]
async fn exec_streams_both_ways() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let request = ExecRequest {
        command: sh("cat; exit 4"),
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let mut session = node.runtime().exec(&id, request).await.unwrap();
    assert!(session.stderr.is_none() && session.terminal.is_none());
    let (mut stdin, mut stdout) = (
        session.stdin.take().unwrap(),
        session.stdout.take().unwrap(),
    );
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = data.clone();
    let send = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let mut read = Vec::new();
    let (_, received) = tokio::join!(send, stdout.read_to_end(&mut read));
    received.unwrap();
    assert!(read == data);
    assert_eq!(session.exit.await.unwrap(), 4);
}

#[tokio::test]
async fn exec_with_a_terminal_has_its_size_and_follows_it() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node.run(&sandbox, node.shell("sleep 1000")).await;
    let script = "tty; stty size; echo $TERM; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.01; done";
    let request = ExecRequest {
        command: sh(script),
        tty: true,
        stdin: true,
        stdout: true,
        size: Some(TerminalSize {
            width: 111,
            height: 33,
        }),
        ..Default::default()
    };
    let mut session = node.runtime().exec(&id, request).await.unwrap();
    let mut stdout = session.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("ready") {
        text.push_str(&some(&mut stdout).await);
    }
    assert!(
        text.contains("/dev/pts/0\r\n33 111\r\nxterm\r\n"),
        "{text:?}"
    );
    let terminal = session.terminal.clone().unwrap();
    terminal
        .resize(TerminalSize {
            width: 99,
            height: 44,
        })
        .unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "44 99\r\n");
    assert_eq!(session.exit.await.unwrap(), 6);
}

async fn some(from: &mut kubelet::runtime::stream::Output) -> String {
    let mut buffer = [0; 4096];
    let length = from.read(&mut buffer).await.unwrap();
    assert!(length > 0, "the end came early");
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn attach_sees_what_is_written_and_the_log_has_it_too() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("read line; echo got $line; cat; echo err >&2; exit 9");
    config.stdin = true;
    config.stdin_once = true;
    let id = node.run(&sandbox, config).await;
    let mut session = node.runtime().attach(&id, true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"first\nsecond\n").await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    session
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .await
        .unwrap();
    session
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .await
        .unwrap();
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("got first\nsecond\n", "err\n")
    );
    assert_eq!(session.exit.await.unwrap(), 9);
    assert_eq!(
        node.output(&node.status(&id).await),
        "got first\nsecond\nerr\n"
    );
}

#[tokio::test]
async fn without_stdin_once_the_input_stays_open() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("read a; read b; echo $a $b");
    config.stdin = true;
    let id = node.run(&sandbox, config).await;
    for text in ["one\n", "two\n"] {
        let mut session = node.runtime().attach(&id, true).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
    }
    let status = node.exited(&id).await;
    assert_eq!(node.output(&status), "one two\n");
}

#[tokio::test]
async fn a_container_with_a_terminal_is_attached_and_resized() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    // The size goes another way than the input, which may come first. Without one, stty says so and ends well.
    let mut config = node.shell(
        "read go; tty; until stty size 2>/dev/null | grep .; do :; done; ls -l /dev/console | cut -c1; read end; exit 3",
    );
    config.tty = true;
    config.stdin = true;
    let id = node.run(&sandbox, config).await;
    let mut session = node.runtime().attach(&id, true).await.unwrap();
    assert!(session.stderr.is_none());
    session
        .terminal
        .clone()
        .unwrap()
        .resize(TerminalSize {
            width: 70,
            height: 20,
        })
        .unwrap();
    let (mut stdin, mut stdout) = (
        session.stdin.take().unwrap(),
        session.stdout.take().unwrap(),
    );
    stdin.write_all(b"go\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("c\r\n") {
        text.push_str(&some(&mut stdout).await);
    }
    assert!(text.contains("go\r\n/dev/pts/0\r\n20 70\r\n"), "{text:?}");
    stdin.write_all(b"end\n").await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 3);
    let status = node.exited(&id).await;
    assert!(node.output(&status).contains("20 70"));
}

#[tokio::test]
async fn a_slow_client_slows_the_container_and_sees_everything() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("read go; seq 1 300000");
    config.stdin = true;
    let id = node.run(&sandbox, config).await;
    let mut session = node.runtime().attach(&id, true).await.unwrap();
    session
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        node.status(&id).await.state,
        ContainerState::Running,
        "it waits for its client"
    );
    let mut text = String::new();
    session
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text.lines().count(), 300_000);
    assert!(text.ends_with("300000\n"));
    node.exited(&id).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_disturb() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let mut config = node.shell("read go; seq 1 100000; exit 2");
    config.stdin = true;
    let id = node.run(&sandbox, config).await;
    let gone = node.runtime().attach(&id, true).await.unwrap();
    let mut session = node.runtime().attach(&id, true).await.unwrap();
    drop(gone);
    session
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .await
        .unwrap();
    let mut text = String::new();
    session
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text.lines().count(), 100_000);
    assert_eq!(node.exited(&id).await.exit_code, 2);
}

#[tokio::test]
async fn a_port_of_the_pods_loopback_is_reached() {
    let node = Node::start().await;
    let sandbox = node.sandbox().await;
    let id = node
        .run(&sandbox, node.shell("exec nc -ll -p 8080 -e /bin/cat"))
        .await;
    let mut stream = None;
    let deadline = Instant::now() + LIMIT;
    while stream.is_none() && Instant::now() < deadline {
        stream = node.runtime().port_forward(&sandbox, 8080).await.ok();
    }
    let mut stream = stream.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    let mut read = [0; 6];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello\n");
    let closed = node.runtime().port_forward(&sandbox, 8081).await;
    assert!(matches!(closed, Err(Error::PortForward { port: 8081, .. })));
    assert_eq!(node.status(&id).await.state, ContainerState::Running);
}
