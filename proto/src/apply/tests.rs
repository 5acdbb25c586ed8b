//! What upstream's tests of `structured-merge-diff` and `managedfields` publish as behaviour, on types
//! of the catalogue, and properties that hold for all sets and objects.

mod apply;
mod compare;
mod managed;
mod properties;
mod sets;

use super::{Applied, Configuration, Error, Managed, Subject, Trees, Version, explicit_form};
use crate::MsgId;
use crate::codec::json::{self, Strictness};
use crate::value::Value;

fn yaml(text: &str) -> Value {
    crate::codec::yaml::parse(text.as_bytes()).unwrap().value
}

/// A conformed object from YAML with `apiVersion` and `kind`, and what they name.
fn object(text: &str) -> (Value, Typed) {
    let tree = yaml(text);
    let typed = Typed::of(&tree);
    (typed.conform(&tree), typed)
}

#[derive(Clone)]
struct Typed {
    kind: String,
    api_version: String,
    message: MsgId,
}

impl Typed {
    fn of(tree: &Value) -> Self {
        let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = crate::meta::parse_api_version(&api_version).unwrap();
        let message = crate::catalogue::message_of(group, version, &kind).unwrap();
        Self {
            kind,
            api_version,
            message,
        }
    }

    fn conform(&self, tree: &Value) -> Value {
        let mut text = Vec::new();
        json::write(tree, &mut text);
        let mut object = json::decode(&text, self.message, Strictness::Lenient)
            .unwrap()
            .value;
        object.remove(&["kind"]);
        object.remove(&["apiVersion"]);
        object
    }

    fn subject<R>(&self, subresource: &str, f: impl FnOnce(&Subject<'_>) -> R) -> R {
        f(&Subject {
            kind: &self.kind,
            api_version: &self.api_version,
            subresource,
            message: self.message,
            version: &|asked| {
                let (group, version) = crate::meta::parse_api_version(asked)?;
                let served = crate::catalogue::resources()
                    .iter()
                    .any(|r| r.group == group && r.version == version && r.kind == self.kind);
                let message = crate::catalogue::message_of(group, version, &self.kind)?;
                served.then_some(Version {
                    message,
                    filter: super::Filter::default(),
                })
            },
        })
    }
}

/// An object and its managers, through a series of writes.
struct Story {
    typed: Typed,
    live: Value,
    managed: Managed,
    /// Seconds since the story began.
    clock: u32,
}

impl Story {
    fn of(api_version: &str, kind: &str) -> Self {
        let tree = yaml(&format!("{{apiVersion: {api_version}, kind: {kind}}}"));
        Self {
            typed: Typed::of(&tree),
            live: Value::object(),
            managed: Managed::default(),
            clock: 0,
        }
    }

    fn now(&mut self) -> String {
        self.clock += 1;
        format!("2026-01-01T00:00:{:02}Z", self.clock)
    }

    fn tree(&self, body: &str) -> Value {
        let mut tree = yaml(body);
        tree.set(&["apiVersion"], self.typed.api_version.as_str());
        tree.set(&["kind"], self.typed.kind.as_str());
        tree
    }

    fn update(&mut self, manager: &str, body: &str) {
        self.update_part("", manager, body);
    }

    fn update_part(&mut self, subresource: &str, manager: &str, body: &str) {
        let now = self.now();
        let mut new = self.typed.conform(&self.tree(body));
        let old = self.live.clone();
        let managed = std::mem::take(&mut self.managed);
        self.managed = self
            .typed
            .subject(subresource, |s| {
                super::update(s, &old, &new, managed, manager, &now)
            })
            .unwrap();
        new.set(&["metadata", "uid"], "u");
        self.live = new;
    }

    fn apply(&mut self, manager: &str, body: &str) -> Result<(), Error> {
        self.try_apply(manager, body, false)
    }

    fn force(&mut self, manager: &str, body: &str) {
        self.try_apply(manager, body, true).unwrap();
    }

    fn try_apply(&mut self, manager: &str, body: &str, force: bool) -> Result<(), Error> {
        let now = self.now();
        let config = self.tree(body);
        let configuration = Configuration {
            object: &config,
            manager,
            force,
            now: &now,
        };
        let Applied {
            object, managed, ..
        } = self.typed.subject("", |s| {
            super::apply(s, &self.live, self.managed.clone(), &configuration)
        })?;
        self.managed = managed;
        if let Some(object) = object {
            self.live = self.typed.conform(&object);
            self.live.set(&["metadata", "uid"], "u");
        }
        Ok(())
    }

    /// The object as JSON, without its uid and type.
    fn shows(&self, body: &str) {
        let mut live = self.live.clone();
        live.remove(&["metadata", "uid"]);
        let wanted = self.typed.conform(&self.tree(body));
        let form = |v: &Value| explicit_form(&self.typed.kind, v, self.typed.message, "v");
        assert_eq!(text(&form(&live)), text(&form(&wanted)));
    }

    /// Who owns what: lines of `manager operation set`.
    fn owned(&self, lines: &[&str]) {
        let mut have: Vec<String> = self
            .managed
            .entries()
            .iter()
            .map(|e| {
                let set = String::from_utf8(e.set.print()).unwrap();
                format!("{} {} {set}", e.manager, e.operation.text())
            })
            .collect();
        have.sort();
        assert_eq!(have, lines);
    }

    fn conflicts(&mut self, manager: &str, body: &str) -> String {
        match self.apply(manager, body) {
            Err(Error::Conflicts(conflicts)) => conflicts.message(),
            other => panic!("no conflict: {other:?}"),
        }
    }
}

fn text(value: &Value) -> String {
    let mut out = Vec::new();
    json::write(value, &mut out);
    String::from_utf8(out).unwrap()
}

fn compare(old: &str, new: &str) -> super::Comparison {
    let (old, typed) = object(old);
    let (new, _) = object(new);
    super::compare(&old, &new, typed.message, Trees::Conformed).unwrap()
}
