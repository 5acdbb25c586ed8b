//! `TaintNodesByCondition`: a new node takes no pods before somebody has found it ready.
//! Upstream: `plugin/pkg/admission/nodetaint`.

use proto::Value;
use proto::catalogue::names as n;
use resources::status::Failure;

use super::{Attributes, CREATE, Operation, Plugin};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "TaintNodesByCondition",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|_, write| Box::pin(std::future::ready(admit(write)))),
    ..Plugin::OFF
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn admit(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation == Operation::Create
        && write.is("", "nodes")
        && let Some(node) = &mut write.object
    {
        taint(node);
    }
    Ok(())
}

fn taint(node: &mut Value) {
    let taints = node.ensure(&[n::SPEC, n::TAINTS]).make_list();
    let is = |t: &Value, name, text| t.get(name).and_then(Value::as_str) == Some(text);
    if taints
        .iter()
        .any(|t| is(t, n::KEY, NOT_READY) && is(t, n::EFFECT, "NoSchedule"))
    {
        return;
    }
    let mut taint = Value::object();
    taint.set(&[n::KEY], NOT_READY);
    taint.set(&[n::EFFECT], "NoSchedule");
    taints.push(taint);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_taint_once() {
        let mut node = Value::object();
        taint(&mut node);
        taint(&mut node);
        assert_eq!(
            node.at(&[n::SPEC, n::TAINTS])
                .and_then(Value::as_list)
                .map(<[Value]>::len),
            Some(1)
        );
    }
}
