//! `/debug/pprof` and `/debug/flags`: what can be seen of a running process, and how much it logs.
//!
//! The paths are upstream's (`apiserver/pkg/server/routes/{profiling,flags}.go`, Go's `net/http/pprof`). Go's runtime makes
//! profiles of itself; what there is of them here is text, and for the rest it is said how it is had from outside.

use std::fmt::Write;
use std::fs;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};

use super::{NO_SNIFF, Response, full, text};
use crate::logging;
use crate::supervisor::BoxError;

const PROFILES: &str = "/debug/pprof/";
const FLAGS: &str = "/debug/flags";
/// What a verbosity may take in a body; more is none.
const MOST_DIGITS: usize = 64;

/// A page of `/debug/pprof/`.
struct Page {
    name: &'static str,
    about: &'static str,
    made: Made,
}

enum Made {
    Here(fn() -> String),
    /// By a program that looks at the process.
    Outside(&'static str),
}

const fn page(name: &'static str, about: &'static str, made: Made) -> Page {
    Page { name, about, made }
}

/// By name, as Go has them.
const PAGES: &[Page] = &[
    page(
        "allocs",
        "Allocations by place",
        Made::Outside("heaptrack --pid"),
    ),
    page(
        "block",
        "Waits by place",
        Made::Outside("perf trace --summary --pid"),
    ),
    page(
        "cmdline",
        "The command line, its words parted by NUL",
        Made::Here(command_line),
    ),
    page("goroutine", "How many tasks there are", Made::Here(tasks)),
    page(
        "heap",
        "Memory, as the kernel counts it",
        Made::Here(memory),
    ),
    page(
        "mutex",
        "Contended locks by place",
        Made::Outside("perf lock record --pid"),
    ),
    page(
        "profile",
        "Time on CPUs by place",
        Made::Outside("perf record --call-graph dwarf --pid"),
    ),
    page("symbol", "Names of addresses: none", Made::Here(symbols)),
    page("threadcreate", "The threads", Made::Here(threads)),
    page(
        "trace",
        "What was scheduled when",
        Made::Outside("perf sched record --pid"),
    ),
];

/// Answers what is below `/debug/pprof` and `/debug/flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Debug {
    /// Whether the command line is shown. It is not where the API server answers: upstream has that page on its socket only.
    pub command_line: bool,
}

impl Debug {
    /// The answer, or none if the path is none of these.
    pub async fn answer<B>(self, request: http::Request<B>) -> Option<Response>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let path = request.uri().path().to_owned();
        if path == "/debug/pprof" {
            return Some(moved(PROFILES));
        }
        if let Some(name) = path.strip_prefix(PROFILES) {
            return Some(self.profile(name));
        }
        let flag = path.strip_prefix(FLAGS)?;
        match flag {
            "/v" => Some(verbosity(request).await),
            "" => Some(html("/debug/flags/", &["v"])),
            below if below.starts_with('/') => Some(html("/debug/flags/", &["v"])),
            _ => None,
        }
    }

    fn profile(self, name: &str) -> Response {
        let shown = |page: &&Page| self.command_line || page.name != "cmdline";
        let mut pages = PAGES.iter().filter(shown);
        if name.is_empty() {
            let names: Vec<String> = pages.map(row).collect();
            return html(PROFILES, &names);
        }
        match pages.find(|page| page.name == name).map(|page| &page.made) {
            None => refused(StatusCode::NOT_FOUND, "Unknown profile\n".to_owned()),
            Some(Made::Here(make)) => seen(make()),
            Some(Made::Outside(command)) => {
                let id = std::process::id();
                let why = format!(
                    "This program does not profile itself. From outside it is done with: {command} {id}\n"
                );
                refused(StatusCode::NOT_IMPLEMENTED, why)
            }
        }
    }
}

fn row(page: &Page) -> String {
    format!("<a href=\"{0}\">{0}</a>: {1}", page.name, page.about)
}

/// PUT of a number sets how much is logged (`component-base/logs`, `GlogSetter`).
async fn verbosity<B>(request: http::Request<B>) -> Response
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    if request.method() != Method::PUT {
        let why = "unsupported http method".to_owned();
        return plain(StatusCode::NOT_ACCEPTABLE, why);
    }
    let Ok(body) = Limited::new(request.into_body(), MOST_DIGITS)
        .collect()
        .await
    else {
        let why = "error reading request body".to_owned();
        return plain(StatusCode::BAD_REQUEST, why);
    };
    let said = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    match said.parse().map(logging::set_verbosity) {
        Ok(()) => plain(
            StatusCode::OK,
            format!("successfully set klog.logging.verbosity to {said}"),
        ),
        Err(_) => plain(
            StatusCode::BAD_REQUEST,
            format!("strconv.ParseUint: parsing {said:?}: invalid syntax"),
        ),
    }
}

fn plain(status: StatusCode, said: String) -> Response {
    let mut response = text(status, said + "\n");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert("x-content-type-options", NO_SNIFF);
    response
}

fn seen(said: String) -> Response {
    let mut response = text(StatusCode::OK, said);
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", NO_SNIFF);
    response
}

/// As Go's tools expect a refusal: they show its text.
fn refused(status: StatusCode, why: String) -> Response {
    let mut response = seen(why);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-go-pprof", HeaderValue::from_static("1"));
    response
}

/// As Go redirects.
fn moved(to: &'static str) -> Response {
    let mut response = http::Response::new(full(format!("<a href=\"{to}\">Found</a>.\n\n")));
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert(LOCATION, HeaderValue::from_static(to));
    response
}

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

fn html<T: AsRef<str>>(title: &str, rows: &[T]) -> Response {
    let mut page = format!("<html>\n<head><title>{title}</title></head>\n<body>\n{title}<br>\n");
    for row in rows {
        let _ = writeln!(page, "{}<br>", row.as_ref());
    }
    page.push_str("</body>\n</html>\n");
    let mut response = http::Response::new(full(page));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert("x-content-type-options", NO_SNIFF);
    response
}

fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join("\0")
}

/// Go's tools ask for names by address where a profile has none.
fn symbols() -> String {
    "num_symbols: 0\n".to_owned()
}

fn tasks() -> String {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return String::new();
    };
    let metrics = runtime.metrics();
    format!(
        "tasks: {}\nworkers: {}\nwaiting for a worker: {}\n",
        metrics.num_alive_tasks(),
        metrics.num_workers(),
        metrics.global_queue_depth(),
    )
}

/// proc(5): what the process has in memory, by kind.
fn memory() -> String {
    fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default()
}

/// The threads by name, with what each is doing (proc(5): the third field of `stat`).
fn threads() -> String {
    let all = fs::read_dir("/proc/self/task").into_iter().flatten();
    let mut lines: Vec<String> = all
        .flatten()
        .filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            let (head, rest) = stat.rsplit_once(") ")?;
            let (id, name) = head.split_once(" (")?;
            Some(format!("{name} {id} {}", rest.split(' ').next()?))
        })
        .collect();
    lines.sort_unstable();
    format!("threads: {}\n{}\n", lines.len(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: Debug = Debug {
        command_line: false,
    };
    const SOCKET: Debug = Debug { command_line: true };

    async fn ask(debug: Debug, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = http::Request::builder().method(method).uri(path);
        let body = http_body_util::Full::new(Bytes::from(body.to_owned()));
        let response = debug.answer(request.body(body).unwrap()).await;
        let (head, body) = response.expect("a page of /debug").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (head.status.as_u16(), text)
    }

    #[tokio::test]
    async fn what_there_is_of_a_profile_is_shown_and_else_how_to_make_it() {
        let get = |path: &'static str| ask(SECURE, Method::GET, path, "");
        let (status, index) = get("/debug/pprof/").await;
        assert_eq!(status, 200);
        assert!(index.contains("goroutine") && !index.contains("cmdline"));
        assert_eq!(get("/debug/pprof").await.0, 302);
        let (status, tasks) = get("/debug/pprof/goroutine?debug=1").await;
        assert_eq!(status, 200);
        assert!(tasks.starts_with("tasks: "), "{tasks}");
        let (_, threads) = get("/debug/pprof/threadcreate").await;
        assert!(threads.starts_with("threads: "), "{threads}");
        let (_, memory) = get("/debug/pprof/heap").await;
        assert!(memory.contains("Rss:"), "{memory}");
        let (status, why) = get("/debug/pprof/profile?seconds=1").await;
        assert_eq!(status, 501);
        let id = std::process::id().to_string();
        assert!(why.contains("perf record") && why.contains(&id), "{why}");
        assert_eq!(get("/debug/pprof/other").await.0, 404);
    }

    #[tokio::test]
    async fn the_command_line_is_for_who_has_the_socket() {
        let path = "/debug/pprof/cmdline";
        assert_eq!(ask(SECURE, Method::GET, path, "").await.0, 404);
        let (status, line) = ask(SOCKET, Method::GET, path, "").await;
        assert_eq!((status, line), (200, command_line()));
    }

    #[tokio::test]
    async fn only_a_put_of_a_number_sets_the_verbosity() {
        let path = "/debug/flags/v";
        let (status, _) = ask(SECURE, Method::GET, path, "").await;
        assert_eq!(status, 406);
        let (status, said) = ask(SECURE, Method::PUT, path, "-1").await;
        assert_eq!(status, 400);
        assert!(said.contains("invalid syntax"), "{said}");
        let (status, said) = ask(SECURE, Method::PUT, path, "3").await;
        assert_eq!(status, 200);
        assert_eq!(said, "successfully set klog.logging.verbosity to 3\n");
        let long = "0".repeat(MOST_DIGITS + 1);
        assert_eq!(ask(SECURE, Method::PUT, path, &long).await.0, 400);
        let (status, index) = ask(SECURE, Method::GET, "/debug/flags", "").await;
        assert!(status == 200 && index.contains("\nv<br>"), "{index}");
    }
}
