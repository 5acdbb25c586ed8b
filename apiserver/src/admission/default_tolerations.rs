//! `DefaultTolerationSeconds`: a pod that says nothing else stays for a while on a node that is not
//! ready or not reachable. Upstream: `plugin/pkg/admission/defaulttolerationseconds`.

use proto::Value;
use proto::catalogue::names as n;
use proto::view::core_v1::Toleration;
use proto::view::{Node, View};
use resources::status::Failure;

use super::{Attributes, Plugin, WRITES};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "DefaultTolerationSeconds",
    on_by_default: true,
    operations: WRITES,
    mutate: Some(|server, write| Box::pin(async move { admit(server, write) })),
    ..Plugin::OFF
};

fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "pods") {
        return Ok(());
    }
    if let Some(pod) = &mut write.object {
        let config = &server.config.admission;
        let seconds = [
            ("node.kubernetes.io/not-ready", config.not_ready_toleration),
            (
                "node.kubernetes.io/unreachable",
                config.unreachable_toleration,
            ),
        ];
        add(pod, &seconds);
    }
    Ok(())
}

/// Adds a toleration of each taint's effect `NoExecute` unless the pod has one.
fn add(pod: &mut Value, defaults: &[(&str, i64)]) {
    let tolerations = pod
        .at(&[n::SPEC, n::TOLERATIONS])
        .and_then(Value::as_list)
        .unwrap_or_default();
    let covers = |t: &Value, key: &str| {
        let t = Toleration::of(Node::new(t));
        (t.key() == key || t.key().is_empty()) && matches!(t.effect(), "NoExecute" | "")
    };
    let missing: Vec<_> = defaults
        .iter()
        .filter(|(key, _)| !tolerations.iter().any(|t| covers(t, key)))
        .collect();
    for (key, seconds) in missing {
        let mut toleration = Value::object();
        toleration.set(&[n::KEY], *key);
        toleration.set(&[n::OPERATOR], "Exists");
        toleration.set(&[n::EFFECT], "NoExecute");
        toleration.set(&[n::TOLERATION_SECONDS], *seconds);
        pod.ensure(&[n::SPEC, n::TOLERATIONS])
            .make_list()
            .push(toleration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerations(given: &[(&str, &str)]) -> Vec<(String, i64)> {
        let mut pod = Value::object();
        for (key, effect) in given {
            let mut toleration = Value::object();
            toleration.set(&[n::KEY], *key);
            toleration.set(&[n::EFFECT], *effect);
            pod.ensure(&[n::SPEC, n::TOLERATIONS])
                .make_list()
                .push(toleration);
        }
        add(&mut pod, &[("a", 300), ("b", 60)]);
        let all = pod
            .at(&[n::SPEC, n::TOLERATIONS])
            .and_then(Value::as_list)
            .unwrap_or_default();
        let text = |t: &Value| Toleration::of(Node::new(t)).key().to_owned();
        all[given.len()..]
            .iter()
            .map(|t| {
                (
                    text(t),
                    t.get(n::TOLERATION_SECONDS)
                        .and_then(Value::as_int)
                        .unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn only_what_is_not_tolerated_already_is_added() {
        let keys = |given| {
            tolerations(given)
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            tolerations(&[]),
            [("a".to_owned(), 300), ("b".to_owned(), 60)]
        );
        assert_eq!(keys(&[("a", "NoExecute")]), ["b"]);
        assert_eq!(keys(&[("a", "")]), ["b"]);
        assert_eq!(keys(&[("a", "NoSchedule")]), ["a", "b"]);
        assert_eq!(tolerations(&[("", "")]), [], "everything is tolerated");
    }
}
