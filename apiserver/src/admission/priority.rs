//! `Priority`: a pod's number comes from its class, and there is one default class at most.
//! Upstream: `plugin/pkg/admission/priority`.

use proto::catalogue::names as n;
use proto::view::scheduling_v1::PriorityClass;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::status::Failure;

use super::{Attributes, CHANGES, Operation, Plugin};
use crate::server::Server;

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";
/// What preempts where no class says anything.
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

pub(super) const PLUGIN: Plugin = Plugin {
    name: "Priority",
    on_by_default: true,
    operations: CHANGES,
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    validate: Some(|server, write| Box::pin(std::future::ready(validate(server, write)))),
    ..Plugin::OFF
};

/// What a class gives to a pod.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    class: String,
    priority: i64,
    policy: Option<String>,
}

impl Given {
    fn of(class: &Value) -> Self {
        let view = PriorityClass::of(Node::new(class));
        Self {
            class: meta::name(class).to_owned(),
            priority: view.value(),
            policy: view.preemption_policy().map(Into::into),
        }
    }
}

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let group_kind = match (write.operation, write.subresource) {
        (Operation::Create | Operation::Update, "") if write.is("", "pods") => None,
        (Operation::Create, "") if write.is(GROUP, "podgroups") => {
            Some(("GenericWorkload", "pod group"))
        }
        (Operation::Create, "") if write.is(GROUP, "compositepodgroups") => {
            Some(("CompositePodGroup", "composite pod group"))
        }
        _ => return Ok(()),
    };
    if let (Operation::Update, Some(old), Some(new)) =
        (write.operation, write.old, write.object.as_deref_mut())
    {
        keep(new, old);
        return Ok(());
    }
    let asked = write
        .object
        .as_deref()
        .and_then(|o| o.at(&[n::SPEC, n::PRIORITY_CLASS_NAME]))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let asked = asked.to_owned();
    let given = match group_kind {
        Some((gate, _)) if !server.config.features.enabled(gate) => return Ok(()),
        _ => resolve(server, write, &asked).await?,
    };
    let (what, with_policy) = match group_kind {
        None => ("pod", true),
        Some((_, what)) => (
            what,
            server.config.features.enabled("PodGroupPreemptionPolicy"),
        ),
    };
    let Some(object) = write.object.as_deref_mut() else {
        return Ok(());
    };
    set(object, given, what, with_policy).map_err(|why| write.forbid(&why))
}

/// Older clients leave out on updates what this plugin set.
fn keep(new: &mut Value, old: &Value) {
    for field in [n::PRIORITY, n::PREEMPTION_POLICY] {
        if let Some(was) = old.at(&[n::SPEC, field])
            && new.at(&[n::SPEC, field]).is_none_or(Value::is_null)
        {
            new.set(&[n::SPEC, field], was.clone());
        }
    }
}

async fn resolve(server: &Server, write: &Attributes<'_>, asked: &str) -> Result<Given, Failure> {
    if asked.is_empty() {
        let policy = Some(DEFAULT_POLICY.to_owned());
        return Ok(
            default_class(&server.objects(GROUP, CLASSES)).unwrap_or(Given {
                class: String::new(),
                priority: 0,
                policy,
            }),
        );
    }
    match server.lookup(GROUP, CLASSES, "", asked).await? {
        Some(class) => Ok(Given::of(&class)),
        None => Err(write.forbid(&format!("no PriorityClass with name {asked} was found"))),
    }
}

/// Of several default classes, which a race may make, the one with the lowest value counts.
fn default_class(classes: &[Value]) -> Option<Given> {
    let defaults = classes
        .iter()
        .filter(|c| PriorityClass::of(Node::new(c)).global_default());
    defaults.map(Given::of).min_by_key(|given| given.priority)
}

/// Puts what the class gives into the object, or says what contradicts it.
fn set(object: &mut Value, given: Given, what: &str, with_policy: bool) -> Result<(), String> {
    let spec = object.ensure(&[n::SPEC]);
    let priority = given.priority;
    if let Some(own) = spec
        .get(n::PRIORITY)
        .and_then(Value::as_int)
        .filter(|own| *own != priority)
    {
        return Err(match what {
            "pod" => format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            ),
            _ => format!(
                "priority set in the {what} ({own}) must match the priority computed ({priority}) based on the priority class set in the spec"
            ),
        });
    }
    if let Some(policy) = given.policy.filter(|_| with_policy) {
        if let Some(own) = spec
            .get(n::PREEMPTION_POLICY)
            .and_then(Value::as_str)
            .filter(|own| *own != policy)
        {
            return Err(format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in {what} spec; priority admission controller computed {policy} from the given PriorityClass name"
            ));
        }
        spec.set(&[n::PREEMPTION_POLICY], policy);
    }
    if !given.class.is_empty() {
        spec.set(&[n::PRIORITY_CLASS_NAME], given.class);
    }
    spec.set(&[n::PRIORITY], priority);
    Ok(())
}

fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is(GROUP, CLASSES)
        || !matches!(write.operation, Operation::Create | Operation::Update)
    {
        return Ok(());
    }
    let Some(class) = write
        .object
        .as_deref()
        .filter(|c| PriorityClass::of(Node::new(c)).global_default())
    else {
        return Ok(());
    };
    match default_class(&server.objects(GROUP, CLASSES)) {
        Some(there) if write.operation == Operation::Create || there.class != meta::name(class) => {
            Err(write.forbid(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                there.class
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, value: i64, default: bool) -> Value {
        let mut class = Value::object();
        meta::set(&mut class, n::NAME, name);
        class.set(&[n::VALUE], value);
        class.set(&[n::GLOBAL_DEFAULT], default);
        class
    }

    fn high() -> Given {
        Given {
            class: "high".into(),
            priority: 1000,
            policy: Some("Never".into()),
        }
    }

    #[test]
    fn the_lowest_of_several_defaults_counts() {
        assert_eq!(default_class(&[class("a", 1, false)]), None);
        let classes = [
            class("a", 5, true),
            class("b", 3, true),
            class("c", 1, false),
        ];
        assert_eq!(default_class(&classes).map(|g| g.class), Some("b".into()));
    }

    #[test]
    fn a_pod_gets_what_its_class_says() {
        let mut pod = Value::object();
        set(&mut pod, high(), "pod", true).unwrap();
        let spec = pod.get(n::SPEC).unwrap();
        assert_eq!(spec.get(n::PRIORITY), Some(&Value::Int(1000)));
        assert_eq!(
            spec.get(n::PREEMPTION_POLICY).and_then(Value::as_str),
            Some("Never")
        );
        assert_eq!(
            spec.get(n::PRIORITY_CLASS_NAME).and_then(Value::as_str),
            Some("high")
        );
        set(&mut pod, high(), "pod", true).unwrap();
    }

    #[test]
    fn a_pod_cannot_set_its_own_priority() {
        let mut pod = Value::object();
        pod.set(&[n::SPEC, n::PRIORITY], 7);
        let why = set(&mut pod, high(), "pod", true).unwrap_err();
        assert!(
            why.starts_with("the integer value of priority (7)"),
            "{why}"
        );
        let mut pod = Value::object();
        pod.set(&[n::SPEC, n::PREEMPTION_POLICY], "PreemptLowerPriority");
        assert!(set(&mut pod, high(), "pod", true).is_err());
    }

    #[test]
    fn an_update_that_forgets_the_priority_keeps_it() {
        let mut old = Value::object();
        set(&mut old, high(), "pod", true).unwrap();
        let mut new = Value::object();
        keep(&mut new, &old);
        assert_eq!(new.at(&[n::SPEC, n::PRIORITY]), Some(&Value::Int(1000)));
        new.set(&[n::SPEC, n::PRIORITY], 5);
        keep(&mut new, &old);
        assert_eq!(
            new.at(&[n::SPEC, n::PRIORITY]),
            Some(&Value::Int(5)),
            "validation refuses it"
        );
    }
}
