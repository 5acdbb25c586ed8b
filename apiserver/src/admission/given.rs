//! What admission's expressions are given: the objects of a write, the request, and whoever decides what its user may.
//!
//! Upstream: `apiserver/pkg/admission/plugin/cel/{activation,condition}.go`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cel::{
    Activation, Authorizer, Check, Decision, Error, Evaluated, Outcome, PER_CALL_LIMIT, Program,
};
use parking_lot::Mutex;
use proto::{Value, codec};
use resources::status::Failure;

use super::Attributes;
use super::webhook::{Matched, Objects, request, seen_namespace};
use crate::auth::{User, service_account};
use crate::authz;
use crate::server::Server;

/// What takes longer lets others go on before the next.
const LONG: Duration = Duration::from_millis(1);

/// Between evaluations, the last of which began then. Nothing else waits in them, and there can be as many as there are
/// policies, bindings and parameters: without this, they would keep a thread, and their request would not end in time.
pub(super) async fn breathe(since: Instant) {
    if since.elapsed() > LONG {
        tokio::task::yield_now().await;
    }
}

/// The variables that all expressions have.
pub(super) struct Given {
    pub(super) object: Value,
    old: Value,
    request: Value,
    /// What `authorizer.requestResource` begins with.
    resource: Check,
    pub(super) decisions: Decisions,
}

impl Given {
    /// Of a write as it is shown: its objects are JSON of the kind that was matched.
    pub(super) fn new(
        to: Matched<'_>,
        write: &Attributes<'_>,
        objects: &Objects,
    ) -> Result<Self, Failure> {
        let tree = |json: Option<&[u8]>| match json {
            Some(json) => codec::json::parse(json).map_err(Failure::internal),
            None => Ok(Value::Null),
        };
        let request = request(write, to, objects).map_err(Failure::internal)?;
        let resource = Check {
            group: write.resource.group.into(),
            resource: write.resource.name.into(),
            subresource: write.subresource.into(),
            namespace: seen_namespace(write).into(),
            name: write.name.into(),
            ..Check::default()
        };
        Ok(Self {
            object: tree(objects.object.as_deref())?,
            old: tree(objects.old.as_deref())?,
            request: tree(Some(&request))?,
            resource,
            decisions: Decisions::default(),
        })
    }

    /// Evaluates an expression that has no other variables; what it asks of the authorizer is decided on the way.
    pub(super) async fn evaluate<'a>(
        &'a self,
        server: &Server,
        user: &User,
        program: &Program,
    ) -> Evaluated<'a> {
        loop {
            let check = {
                let evaluated = program.evaluate(self, PER_CALL_LIMIT);
                match evaluated.outcome {
                    Err(Error::Undecided(check)) => check,
                    _ => return evaluated,
                }
            };
            self.decisions.learn(server, user, *check).await;
        }
    }
}

impl Activation for Given {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        Some(Ok(match name {
            "object" => cel::Value::of(&self.object),
            "oldObject" => cel::Value::of(&self.old),
            "request" => cel::Value::of(&self.request),
            // Match conditions are evaluated without it.
            "namespaceObject" => cel::Value::Null,
            "authorizer" => cel::Value::authorizer(&self.decisions),
            "authorizer.requestResource" => {
                cel::Value::resource_check(&self.decisions, self.resource.clone())
            }
            _ => return None,
        }))
    }
}

#[cfg(test)]
impl Given {
    /// The versions of the resource and the kind that are told, of the kind that was asked for, and of the object.
    pub(super) fn versions(&self) -> [String; 4] {
        let of_request = |field: &str| self.request.get(field).and_then(|of| of.get("version"));
        [
            of_request("resource"),
            of_request("kind"),
            of_request("requestKind"),
            self.object.get("apiVersion"),
        ]
        .map(|version| {
            version
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        })
    }
}

/// What was decided so far for the user of a write.
#[derive(Default)]
pub(super) struct Decisions(Mutex<HashMap<Check, Decision>>);

impl Authorizer for Decisions {
    fn authorize(&self, check: &Check) -> Option<Decision> {
        self.0.lock().get(check).cloned()
    }
}

impl Decisions {
    /// Has a question decided, and remembers what was.
    pub(super) async fn learn(&self, server: &Server, user: &User, check: Check) {
        let decision = decide(server, user, &check).await;
        self.0.lock().insert(check, decision);
    }
}

async fn decide(server: &Server, user: &User, check: &Check) -> Decision {
    let account = check.service_account.as_ref();
    let account = account.map(|(namespace, name)| service_account::of_account(namespace, name, ""));
    let user = account.as_ref().unwrap_or(user);
    let asked = match &check.path {
        Some(path) => authz::Attributes {
            is_resource: false,
            path,
            ..authz::Attributes::about(user, &check.verb, "", "", "")
        },
        None => authz::Attributes {
            namespace: &check.namespace,
            subresource: &check.subresource,
            name: &check.name,
            field_selector: &check.field_selector,
            label_selector: &check.label_selector,
            ..authz::Attributes::about(user, &check.verb, &check.group, "*", &check.resource)
        },
    };
    let outcome = server.authorizers.explain(&asked).await;
    Decision {
        allowed: outcome.decision == authz::Decision::Allow,
        reason: outcome.reason.into(),
        error: outcome.error.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn evaluations_that_take_long_let_others_go_on() {
        let went_on = Cell::new(false);
        let other = async { went_on.set(true) };
        let evaluations = async {
            breathe(Instant::now() + LONG).await;
            assert!(!went_on.get(), "it took no time");
            let long_ago = Instant::now().checked_sub(2 * LONG);
            breathe(long_ago.expect("the machine runs for a while")).await;
            assert!(went_on.get());
        };
        tokio::join!(biased; evaluations, other);
    }
}
