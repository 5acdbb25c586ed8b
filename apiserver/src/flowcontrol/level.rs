//! Priority levels as their objects have them.
//!
//! Upstream: `queueSetCompleterForPL` and `plSpecCommons` in `util/flowcontrol/apf_controller.go`.

use proto::view::flowcontrol_v1::PriorityLevelConfiguration;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::strategies::flowcontrol::bootstrap::EXEMPT;

use super::allocation::Shares;
use super::queues::{Discipline, Queuing};
use super::shuffle::Dealer;

/// Upstream's default for levels that say nothing.
const DEFAULT_SHARES: i64 = 30;

/// One level.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Level {
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    pub(super) shares: Shares,
    pub(super) discipline: Discipline,
    hand: u32,
}

/// Why a level cannot be used. It is as if it were not there.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    #[error("broken union structure at the top")]
    Union,
    #[error("non-alignment between name and type")]
    Name,
    #[error("broken union structure for limit response")]
    Response,
    #[error("the queuing configuration implies an invalid shuffle sharding configuration")]
    Hand,
}

impl Level {
    /// # Errors
    /// If the object's parts contradict each other.
    pub(super) fn of(object: &Value) -> Result<Self, Broken> {
        let spec = PriorityLevelConfiguration::of(Node::new(object)).spec();
        let (limited, exempt) = (spec.limited(), spec.exempt());
        let name = meta::name(object);
        let is_exempt = spec.r#type() == "Exempt";
        if (spec.r#type() == "Limited") != limited.is_some() || is_exempt != exempt.is_some() {
            return Err(Broken::Union);
        }
        if is_exempt != (name == EXEMPT) {
            return Err(Broken::Name);
        }
        let level = |nominal: i64, lendable, borrowing: Option<i64>, discipline, hand| Self {
            name: name.into(),
            uid: meta::uid(object).into(),
            shares: Shares {
                nominal: number(nominal),
                lendable: number(lendable),
                borrowing: borrowing.map(number),
            },
            discipline,
            hand,
        };
        let Some(limited) = limited else {
            let exempt = exempt.ok_or(Broken::Union)?;
            let nominal = exempt.nominal_concurrency_shares().unwrap_or(0);
            let lendable = exempt.lendable_percent().unwrap_or(0);
            return Ok(level(nominal, lendable, None, Discipline::Exempt, 0));
        };
        let response = limited.limit_response();
        let queuing = response.queuing();
        if (response.r#type() == "Reject") != queuing.is_none() {
            return Err(Broken::Response);
        }
        let (discipline, hand) = match queuing {
            None => (Discipline::Reject, 0),
            Some(q) => {
                let (queues, hand) = (number(q.queues()), number(q.hand_size()));
                let dealer = Dealer::new(queues as usize, hand as usize).ok_or(Broken::Hand)?;
                let queuing = Queuing {
                    dealer,
                    queues: queues as usize,
                    length: number(q.queue_length_limit()) as usize,
                };
                (Discipline::Queue(queuing), hand)
            }
        };
        let nominal = limited
            .nominal_concurrency_shares()
            .unwrap_or(DEFAULT_SHARES);
        let lendable = limited.lendable_percent().unwrap_or(0);
        let borrowing = limited.borrowing_limit_percent();
        Ok(level(nominal, lendable, borrowing, discipline, hand))
    }

    /// The most seats that one request may take: no more than a flow's part of the level, and 15 %.
    /// None if nothing waits here.
    #[must_use]
    pub(super) fn most_seats(&self, nominal: u32) -> Option<u32> {
        let Discipline::Queue(_) = self.discipline else {
            return None;
        };
        let part = (f64::from(nominal) * 0.15).ceil() as u32;
        Some(part.min(nominal / self.hand.max(1)).max(1))
    }
}

fn number(given: i64) -> u32 {
    u32::try_from(given.max(0)).unwrap_or(u32::MAX)
}
