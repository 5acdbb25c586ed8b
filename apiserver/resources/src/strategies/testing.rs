//! For tests of strategies: what would be stored of a body, or what is wrong with it.

use component::serving::User;
use proto::Value;
use proto::catalogue::Gates;
use proto::codec::json;

use crate::Cx;
use crate::rehearsal::{Outcome, Rehearsal};
use crate::status::Failure;

/// A resource: group, version, name.
#[derive(Clone, Copy)]
pub(super) struct Of(pub &'static str, pub &'static str, pub &'static str);

/// What would be stored, or `field: text` of each error.
pub(super) type Told = Result<Value, Vec<String>>;

const NOW: &str = "2026-01-01T00:00:00Z";

/// The same where these gates are on.
#[derive(Clone, Copy)]
pub(super) struct On(Of, Gates);

impl On {
    pub(super) fn create(self, body: &str) -> Told {
        self.0.run(self.1, |rehearsal, cx| {
            rehearsal.create(cx, "u", body.as_bytes())
        })
    }

    /// What is wrong with a new object.
    pub(super) fn refused(self, body: &str) -> Vec<String> {
        self.create(body).err().unwrap_or_default()
    }

    /// An update of the object, or of a part of it. What both have in common of their metadata is filled in.
    pub(super) fn update(self, part: &str, new: &str, old: &str) -> Told {
        let complete = |body: &str| {
            let mut object = json::parse(body.as_bytes()).expect("the test's JSON is valid");
            for (field, value) in [
                ("uid", "u"),
                ("resourceVersion", "1"),
                ("creationTimestamp", NOW),
            ] {
                object.set(&["metadata", field], value);
            }
            if self.0.is_namespaced() {
                object.set(&["metadata", "namespace"], "n");
            }
            let mut out = Vec::new();
            json::write(&object, &mut out);
            out
        };
        let (new, old) = (complete(new), complete(old));
        self.0.run(self.1, |rehearsal, cx| {
            rehearsal.update(cx, part, &new, &old)
        })
    }

    /// What is wrong with an update.
    pub(super) fn refused_update(self, part: &str, new: &str, old: &str) -> Vec<String> {
        self.update(part, new, old).err().unwrap_or_default()
    }
}

impl Of {
    pub(super) fn on(self, gates: Gates) -> On {
        On(self, gates)
    }

    pub(super) fn create(self, body: &str) -> Told {
        self.on(Gates::defaults()).create(body)
    }

    pub(super) fn update(self, part: &str, new: &str, old: &str) -> Told {
        self.on(Gates::defaults()).update(part, new, old)
    }

    /// What is wrong with a new object.
    pub(super) fn refused(self, body: &str) -> Vec<String> {
        self.create(body).err().unwrap_or_default()
    }

    /// What is wrong with an update.
    pub(super) fn refused_update(self, part: &str, new: &str, old: &str) -> Vec<String> {
        self.update(part, new, old).err().unwrap_or_default()
    }

    /// A new object as it is stored.
    pub(super) fn stored(self, body: &str) -> String {
        let made = self.create(body).expect("the object is valid");
        let mut out = Vec::new();
        json::write(&made, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    fn is_namespaced(self) -> bool {
        proto::catalogue::resources()
            .iter()
            .any(|r| (r.group, r.version, r.name) == (self.0, self.1, self.2) && r.namespaced)
    }

    fn run(
        self,
        gates: Gates,
        of: impl FnOnce(&Rehearsal, &Cx<'_>) -> Result<Outcome, Failure>,
    ) -> Told {
        let rehearsal = Rehearsal::of(self.0, self.1, self.2).expect("the resource is stored");
        let user = User::default();
        let cx = Cx {
            user: &user,
            namespace: "n",
            now: NOW,
            now_seconds: 1_767_225_600,
            dry_run: false,
            gates,
            allow_privileged: true,
            objections: &[],
        };
        match of(&rehearsal, &cx) {
            Ok(outcome) => Ok(json::parse(&outcome.json()).expect("it was written as JSON")),
            Err(failure) => {
                let causes = failure.details().causes.iter();
                let told: Vec<String> = causes
                    .map(|cause| format!("{}: {}", cause.field, cause.message))
                    .collect();
                assert!(!told.is_empty(), "{}", failure.message());
                Err(told)
            }
        }
    }
}
