//! A web server with one page, which says what pod and node served it. Listens on port 8080.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

/// As process 1 of a container nothing ends it by default. Connections that are open are short and may be cut.
extern "C" fn stop(_: i32) {
    // SAFETY: _exit is safe to call in a signal handler.
    unsafe { _exit(0) }
}

fn main() -> std::io::Result<()> {
    // SAFETY: the handler does nothing but end the process.
    unsafe { signal(SIGTERM, stop) };
    let listener = TcpListener::bind("[::]:8080").or_else(|_| TcpListener::bind("0.0.0.0:8080"))?;
    println!("serving on {}", listener.local_addr()?);
    for connection in listener.incoming().flatten() {
        std::thread::spawn(move || answer(&connection));
    }
    Ok(())
}

/// Answers one request and closes. A client that goes away or sends no HTTP is nobody to complain to.
fn answer(connection: &TcpStream) {
    let _ = connection.set_read_timeout(Some(Duration::from_secs(10)));
    let mut lines = BufReader::new(connection).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}

    let page = match request.split(' ').nth(1) {
        Some("/healthz") => "ok\n".to_owned(),
        _ => {
            let name = |variable: &str| std::env::var(variable).unwrap_or_else(|_| "somewhere".to_owned());
            format!("Hello from pod {} on {}.\n", name("HOSTNAME"), name("NODE_NAME"))
        }
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close";
    let mut out = connection;
    let _ = write!(out, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    println!("{request}");
}
