use super::*;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The text that `say` logs.
pub(crate) fn said(say: impl FnOnce()) -> String {
    logged(Text, 0, say)
}

/// What `say` logs at a verbosity, in a form.
fn logged<F>(form: F, verbosity: u32, say: impl FnOnce()) -> String
where
    F: Clone + Send + Sync + 'static,
    F: for<'a> FormatFields<'a>
        + FormatEvent<tracing_subscriber::layer::Layered<Verbosity, tracing_subscriber::Registry>, F>,
{
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines.clone())
        .fmt_fields(form.clone())
        .event_format(form);
    let subscriber = tracing_subscriber::registry()
        .with(Verbosity::new(verbosity))
        .with(layer);
    tracing::subscriber::with_default(subscriber, say);
    String::from_utf8(lines.0.lock().clone()).unwrap()
}

#[test]
fn text_is_klogs() {
    let line = logged(Text, 0, || {
        let _in = tracing::info_span!("reconcile", object.r#ref = "ns/a \"b\"").entered();
        tracing::error!(error = %"it broke", tries = 3, "Cannot sync");
    });
    let (head, said) = line.split_once("] ").unwrap();
    assert!(
        head.starts_with('E') && head.contains(" tests.rs:"),
        "{head}"
    );
    assert_eq!(head.split(' ').next().unwrap().len(), "E1121".len());
    assert_eq!(
        said,
        "\"Cannot sync\" err=\"it broke\" tries=3 object.ref=\"ns/a \\\"b\\\"\"\n"
    );
}

#[test]
fn json_is_one_object_a_line_whatever_is_in_it() {
    let line = logged(Json, 4, || {
        tracing::debug!(text = "a\n\"b\"\u{1}", half = 0.5, "Said")
    });
    assert_eq!(line.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&value["msg"], &value["v"], &value["text"]),
        (&"Said".into(), &4.into(), &"a\n\"b\"\u{1}".into())
    );
    assert_eq!(value["half"], 0.5);
    assert!(value["ts"].as_f64().unwrap() > 1.6e12, "milliseconds");
}

#[test]
fn verbosity_decides_what_is_shown() {
    let say = || {
        tracing::debug!("mine");
        tracing::debug!(target: "h2::frame", "theirs");
    };
    assert_eq!(logged(Text, 3, say), "");
    assert_eq!(logged(Text, 4, say).lines().count(), 1);
    assert_eq!(logged(Text, 8, say).lines().count(), 2);
}

#[test]
fn verbosity_can_be_changed_while_the_process_runs() {
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines.clone())
        .fmt_fields(Text)
        .event_format(Text);
    let verbosity = Verbosity::new(2);
    let subscriber = tracing_subscriber::registry()
        .with(verbosity.clone())
        .with(layer);
    let say = |what: &str| tracing::debug!(what, "Detail");
    tracing::subscriber::with_default(subscriber, || {
        say("before");
        verbosity.set(5);
        say("between");
        verbosity.set(0);
        say("after");
    });
    let said = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(said.contains("between"), "{said}");
    assert!(
        !said.contains("before") && !said.contains("after"),
        "{said}"
    );
}
