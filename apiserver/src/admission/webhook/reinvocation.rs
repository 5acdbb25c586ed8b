//! Which mutating webhooks are asked again, as something changed the object after they had seen it.
//!
//! Upstream: `mutating/reinvocationcontext.go`.

use std::collections::HashSet;

use proto::{MsgId, Value};
use resources::equal;

/// What one write's rounds of mutation know of each other.
#[derive(Default)]
pub struct Reinvocation {
    /// All plugins run a second time now.
    pub again: bool,
    /// Some plugin wants that.
    pub wanted: bool,
    webhooks: Option<Box<Webhooks>>,
    /// The same of mutating policies, which take no notice of webhooks.
    pub(in super::super) policies: Option<Box<Reinvocation>>,
}

#[derive(Default)]
struct Webhooks {
    /// Those that were asked, and want to be asked again if the object changes.
    asked: HashSet<String>,
    /// Those of them for which it did.
    due: HashSet<String>,
    /// The object as the last of them left it.
    left: Option<Value>,
}

impl Reinvocation {
    /// A webhook changed the object: all before it that want so are asked again, in another round.
    pub(in super::super) fn changed(&mut self) {
        self.wanted = true;
        self.require();
    }

    fn require(&mut self) {
        if let Some(webhooks) = &mut self.webhooks {
            webhooks.due.extend(webhooks.asked.drain());
        }
    }

    /// A webhook was asked that wants to be asked again.
    pub(in super::super) fn asked(&mut self, uid: &str) {
        let webhooks = self.webhooks.get_or_insert_default();
        webhooks.asked.insert(uid.to_owned());
    }

    /// Whether a webhook is to be asked in this round.
    pub(in super::super) fn is_due(&self, uid: &str) -> bool {
        let due = || self.webhooks.as_ref().is_some_and(|w| w.due.contains(uid));
        !self.again || due()
    }

    /// The webhooks' turn comes: in a second round, what plugins before them changed makes them be asked again.
    pub(in super::super) fn begin(&mut self, object: Option<&Value>, of: MsgId) {
        let Some(webhooks) = self.webhooks.as_mut().filter(|_| self.again) else {
            return;
        };
        let left = webhooks.left.take();
        if left.is_some() && !equal::alike(left.as_ref(), object, of) {
            self.require();
        }
    }

    /// The webhooks' turn is over.
    pub(in super::super) fn end(&mut self, object: Option<&Value>) {
        // Only who may be asked again needs to know what has changed.
        if let Some(webhooks) = self.webhooks.as_mut().filter(|w| !w.asked.is_empty()) {
            webhooks.left = object.cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1::POD;

    use super::super::super::testing::pod;
    use super::*;

    #[test]
    fn who_was_asked_before_a_change_is_asked_again() {
        let mut rounds = Reinvocation::default();
        let object = pod("{}");
        rounds.begin(Some(&object), POD);
        assert!(
            rounds.is_due("a") && rounds.is_due("c"),
            "all are in the first round"
        );
        rounds.asked("a");
        rounds.changed();
        rounds.asked("b");
        rounds.end(Some(&object));
        assert!(rounds.wanted);
        rounds.again = true;
        rounds.begin(Some(&object), POD);
        assert!(rounds.is_due("a"));
        assert!(!rounds.is_due("b"), "nothing changed after it");
        assert!(
            !rounds.is_due("c"),
            "nobody is asked for the first time in the second round"
        );
    }

    #[test]
    fn what_plugins_change_in_the_second_round_makes_them_all_be_asked_again() {
        let mut rounds = Reinvocation::default();
        rounds.asked("a");
        rounds.changed();
        rounds.asked("b");
        rounds.end(Some(&pod("{}")));
        rounds.again = true;
        rounds.begin(Some(&pod(r#"{"metadata":{"labels":{"k":"v"}}}"#)), POD);
        assert!(rounds.is_due("a") && rounds.is_due("b") && !rounds.is_due("c"));
    }
}
