//! The server that the suite's processes report to: ginkgo's protocol between its parallel processes and its command line.
//!
//! It hands out numbers of tests, carries what process 1 prepared to the others and tells every finished test the moment
//! it finished. Each process has a path of its own, so it is known who asks. The protocol is that of the ginkgo release
//! that `hack/go/kubernetes` pins (`internal/parallel_support`).

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;

use super::suite::full_name;
use crate::serve::{self, Body};

/// No suite has as many tests: whoever is given this number has none left.
const NONE_LEFT: usize = 1 << 30;

/// What a process told. Processes are numbered from 1.
#[derive(Debug)]
pub(super) enum Event {
    /// It goes on to another test, finds that none is left, or waits for the others.
    Took { process: usize },
    /// A test, or a step before all tests, is over.
    Ran {
        process: usize,
        report: Box<SpecReport>,
        raw: Bytes,
    },
    /// What it is at, after it was asked by a signal.
    At { process: usize, name: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SpecReport {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    pub(super) leaf_node_type: String,
    leaf_node_text: String,
    pub(super) state: String,
    pub(super) start_time: String,
    pub(super) end_time: String,
    /// Nanoseconds.
    run_time: u64,
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    pub(super) additional_failures: Option<Vec<AdditionalFailure>>,
    #[serde(default)]
    pub(super) captured_ginkgo_writer_output: String,
    #[serde(default)]
    pub(super) captured_std_out_err: String,
    #[serde(default)]
    spec_events: Option<Vec<SpecEvent>>,
}

/// What a test did, step by step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecEvent {
    #[serde(default)]
    spec_event_type: String,
    #[serde(default)]
    message: String,
    timeline_location: Option<TimelineLocation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimelineLocation {
    #[serde(default)]
    time: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) location: Location,
    #[serde(default)]
    pub(super) forwarded_panic: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AdditionalFailure {
    pub(super) failure: Failure,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Location {
    #[serde(default)]
    pub(super) file_name: String,
    #[serde(default)]
    pub(super) line_number: u32,
    #[serde(default)]
    pub(super) full_stack_trace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProgressReport {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    #[serde(default)]
    leaf_node_text: String,
}

impl SpecReport {
    pub(super) fn name(&self) -> String {
        let containers = self
            .container_hierarchy_texts
            .as_deref()
            .unwrap_or_default();
        full_name(containers, &self.leaf_node_text)
    }

    /// The steps that the test named, and when it began each.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        let events = self.spec_events.iter().flatten();
        events
            .filter(|event| event.spec_event_type == "By")
            .map(|event| {
                let place = event.timeline_location.as_ref();
                (
                    place.map_or("", |place| place.time.as_str()),
                    event.message.as_str(),
                )
            })
    }

    pub(super) fn seconds(&self) -> f64 {
        std::time::Duration::from_nanos(self.run_time).as_secs_f64()
    }
}

pub(super) struct Judge {
    state: Mutex<State>,
    events: SyncSender<Event>,
}

#[derive(Default)]
struct State {
    /// What process 1 prepared for all, as it sent it.
    before_suite: Option<Bytes>,
    report_before_suite: Option<Bytes>,
    /// Tests taken so far, and the order in which they are given out.
    next: usize,
    order: Vec<usize>,
    processes: Vec<Process>,
    abort: bool,
}

#[derive(Clone, Default)]
struct Process {
    ended: bool,
    /// It is given no further test.
    retired: bool,
}

impl Judge {
    /// `order` holds the numbers that processes have for tests, the first to be given out first.
    pub(super) fn new(processes: usize, order: Vec<usize>, events: SyncSender<Event>) -> Arc<Self> {
        let state = State {
            processes: vec![Process::default(); processes],
            order,
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            events,
        })
    }

    /// Starts serving and returns the URL. The thread lives as long as the program.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let judge = Arc::clone(self);
        let answer = move |request: Request<Bytes>| judge.answer(request);
        thread::Builder::new()
            .name("judge".to_owned())
            .spawn(move || serve::serve(listener, None, Arc::new(answer)))?;
        Ok(url)
    }

    /// The process is no more.
    pub(super) fn ended(&self, process: usize) {
        self.change(process, |process| process.ended = true);
    }

    /// The process is given no further test.
    pub(super) fn retire(&self, process: usize) {
        self.change(process, |process| process.retired = true);
    }

    fn change(&self, process: usize, change: impl FnOnce(&mut Process)) {
        let mut state = self.state.lock();
        let index = process.checked_sub(1);
        if let Some(process) = index.and_then(|index| state.processes.get_mut(index)) {
            change(process);
        }
    }

    fn answer(&self, request: Request<Bytes>) -> Response<Body> {
        let post = request.method() == Method::POST;
        let path = request.uri().path().to_owned();
        let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        let Some((Ok(process), what)) = parts.map(|(who, what)| (who.parse(), what)) else {
            return status(StatusCode::NOT_FOUND);
        };
        let body = request.into_body();
        match what {
            "did-run" => return self.did_run(process, body),
            "progress-report" => self.progress(process, &body),
            _ => {}
        }
        let mut state = self.state.lock();
        match what {
            "report-before-suite-completed" => state.report_before_suite = Some(body),
            "before-suite-completed" => state.before_suite = Some(body),
            "report-before-suite-state" => {
                return state.prepared(&state.report_before_suite);
            }
            "before-suite-state" => return state.prepared(&state.before_suite),
            "have-nonprimary-procs-finished" if !state.others_ended() => {
                drop(state);
                self.send(Event::Took { process });
                return status(StatusCode::TOO_EARLY);
            }
            // Verdicts come by did-run; nobody needs the whole in one piece.
            "aggregated-nonprimary-procs-report" => return status(StatusCode::GONE),
            "counter" => {
                let index = state.counter(process);
                drop(state);
                self.send(Event::Took { process });
                return json(format!("{{\"Index\":{index}}}").into());
            }
            "abort" if post => state.abort = true,
            "abort" if state.abort => return status(StatusCode::GONE),
            // The rest is told for people to watch.
            _ => {}
        }
        status(StatusCode::OK)
    }

    fn did_run(&self, process: usize, body: Bytes) -> Response<Body> {
        match serde_json::from_slice(&body) {
            Ok(report) => {
                let report = Box::new(report);
                self.send(Event::Ran {
                    process,
                    report,
                    raw: body,
                });
                status(StatusCode::OK)
            }
            Err(_) => status(StatusCode::BAD_REQUEST),
        }
    }

    fn progress(&self, process: usize, body: &[u8]) {
        if let Ok(report) = serde_json::from_slice::<ProgressReport>(body) {
            let containers = report.container_hierarchy_texts.unwrap_or_default();
            let name = full_name(&containers, &report.leaf_node_text);
            self.send(Event::At { process, name });
        }
    }

    /// Waits while the run is behind. A run that is over listens no more, and what it is told then is of no interest.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl State {
    fn prepared(&self, what: &Option<Bytes>) -> Response<Body> {
        match what {
            Some(body) => json(body.clone()),
            None if self.processes.first().is_some_and(|first| first.ended) => {
                status(StatusCode::GONE)
            }
            None => status(StatusCode::TOO_EARLY),
        }
    }

    fn others_ended(&self) -> bool {
        self.processes.iter().skip(1).all(|process| process.ended)
    }

    fn counter(&mut self, process: usize) -> usize {
        let index = process.checked_sub(1);
        let process = index.and_then(|index| self.processes.get(index));
        if process.is_none_or(|process| process.retired) {
            return NONE_LEFT;
        }
        // A number beyond the order is none of a test's: the process knows that nothing is left.
        let index = self.order.get(self.next).copied().unwrap_or(self.next);
        self.next += 1;
        index
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::Bytes(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

fn json(body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::Bytes(body));
    let json = http::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn judge(processes: usize) -> (Arc<Judge>, Receiver<Event>) {
        let (sender, receiver) = sync_channel(16);
        (Judge::new(processes, vec![1, 0], sender), receiver)
    }

    fn ask(judge: &Judge, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let answer = judge.answer(request.body(Bytes::from(body.to_owned())).unwrap());
        let status = answer.status().as_u16();
        let Body::Bytes(bytes) = answer.into_body() else {
            panic!("the judge sends no files")
        };
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn others_wait_for_what_the_first_prepared_and_not_longer_than_it_lives() {
        let (judge, _events) = judge(2);
        let state = || ask(&judge, Method::GET, "/2/before-suite-state", "");
        assert_eq!(state().0, 425);
        ask(
            &judge,
            Method::POST,
            "/1/before-suite-completed",
            "{\"State\":\"passed\"}",
        );
        assert_eq!(state(), (200, "{\"State\":\"passed\"}".to_owned()));

        let (judge, _events) = self::judge(2);
        judge.ended(1);
        assert_eq!(ask(&judge, Method::GET, "/2/before-suite-state", "").0, 410);
    }

    #[test]
    fn every_number_is_given_once_and_none_to_the_retired() {
        let (judge, _events) = judge(2);
        let next = |process: &str| ask(&judge, Method::GET, &format!("/{process}/counter"), "").1;
        assert_eq!([next("1"), next("2")], ["{\"Index\":1}", "{\"Index\":0}"]);
        judge.retire(1);
        assert_eq!(next("1"), format!("{{\"Index\":{NONE_LEFT}}}"));
        assert_eq!(next("2"), "{\"Index\":2}");
        assert_eq!(next("7"), format!("{{\"Index\":{NONE_LEFT}}}"));
    }

    #[test]
    fn tests_that_run_alone_wait_until_the_other_processes_ended() {
        let (judge, _events) = judge(3);
        let finished = || ask(&judge, Method::GET, "/1/have-nonprimary-procs-finished", "").0;
        judge.ended(2);
        assert_eq!(finished(), 425);
        judge.ended(3);
        assert_eq!(finished(), 200);
    }

    #[test]
    fn a_finished_test_is_told_at_once() {
        let (judge, events) = judge(1);
        let report = r#"{"ContainerHierarchyTexts":["[sig-a] A"],"LeafNodeType":"It","LeafNodeText":"b","State":"failed",
            "StartTime":"2026-01-01T00:00:00Z","EndTime":"2026-01-01T00:00:02Z","RunTime":2500000000,
            "Failure":{"Message":"no","Location":{"FileName":"a.go","LineNumber":7}}}"#;
        assert_eq!(ask(&judge, Method::POST, "/1/did-run", report).0, 200);
        let Ok(Event::Ran {
            process: 1, report, ..
        }) = events.try_recv()
        else {
            panic!("nothing was told")
        };
        assert_eq!(
            (report.name().as_str(), report.seconds()),
            ("[sig-a] A b", 2.5)
        );
        assert_eq!(report.failure.unwrap().location.line_number, 7);
        assert_eq!(ask(&judge, Method::POST, "/1/did-run", "{").0, 400);
    }

    #[test]
    fn who_is_at_what_is_told_when_it_says_so() {
        let (judge, events) = judge(1);
        let report = r#"{"ContainerHierarchyTexts":["A"],"LeafNodeText":"b"}"#;
        ask(&judge, Method::POST, "/1/progress-report", report);
        assert!(matches!(events.try_recv(), Ok(Event::At { process: 1, name }) if name == "A b"));
    }
}
