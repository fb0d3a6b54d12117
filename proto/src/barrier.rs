// SPDX-License-Identifier: Apache-2.0
//! Barriers on the wire: orders to their members and the members' answers, to and from the domain's.
//!
//! An agent is the coordinator's peer, not its subordinate: whatever is unknown, or missing, is refused, and never guessed.

use crate::v1;
use crate::v1::barrier_answer::Answer as WireAnswer;
use crate::v1::barrier_order::Order as WireOrder;
use holdfast_core::barrier::{Answer, BarrierId, Order, Refusal, Rest};
use std::time::Duration;

/// Why a message about a barrier can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// It does not say which barrier.
    #[error("it names no barrier")]
    NoBarrier,
    /// Its contents are missing, or of a later version.
    #[error("it says nothing that is known")]
    Unknown,
    /// A rest must have a budget.
    #[error("its budget is 0")]
    NoBudget,
    /// How the member came to rest is missing, or unknown.
    #[error("it names no known way to rest")]
    NoRest,
    /// A checkpoint has a number.
    #[error("it names no checkpoint")]
    NoCheckpoint,
    /// Why the member refuses is missing, or unknown.
    #[error("it names no known reason")]
    NoReason,
}

impl From<BarrierId> for v1::BarrierId {
    fn from(id: BarrierId) -> Self {
        Self { epoch: id.epoch, number: id.number }
    }
}

impl From<v1::BarrierId> for BarrierId {
    fn from(id: v1::BarrierId) -> Self {
        Self { epoch: id.epoch, number: id.number }
    }
}

/// An order for the wire. A budget is rounded down to milliseconds: a rest must not be longer than it was meant.
#[must_use]
pub fn order(id: BarrierId, order: Order) -> v1::BarrierOrder {
    let order = match order {
        Order::Prepare => WireOrder::Prepare(v1::BarrierPrepare {}),
        Order::Freeze { budget } => {
            let budget_ms = u32::try_from(budget.as_millis()).unwrap_or(u32::MAX);
            WireOrder::Freeze(v1::BarrierFreeze { budget_ms })
        }
        Order::Cut => WireOrder::Cut(v1::BarrierCut {}),
        Order::Thaw => WireOrder::Thaw(v1::BarrierThaw {}),
    };
    v1::BarrierOrder { barrier: Some(id.into()), order: Some(order) }
}

/// An order from the wire.
///
/// # Errors
/// What is missing in it, or unknown.
pub fn order_of(wire: v1::BarrierOrder) -> Result<(BarrierId, Order), BarrierError> {
    let id = wire.barrier.ok_or(BarrierError::NoBarrier)?.into();
    let order = match wire.order.ok_or(BarrierError::Unknown)? {
        WireOrder::Prepare(_) => Order::Prepare,
        WireOrder::Freeze(v1::BarrierFreeze { budget_ms: 0 }) => return Err(BarrierError::NoBudget),
        WireOrder::Freeze(freeze) => Order::Freeze { budget: Duration::from_millis(freeze.budget_ms.into()) },
        WireOrder::Cut(_) => Order::Cut,
        WireOrder::Thaw(_) => Order::Thaw,
    };
    Ok((id, order))
}

/// An answer for the wire.
#[must_use]
pub fn answer(id: BarrierId, answer: Answer) -> v1::BarrierAnswer {
    let answer = match answer {
        Answer::Prepared => WireAnswer::Prepared(v1::BarrierPrepared {}),
        Answer::Frozen(rest) => WireAnswer::Frozen(v1::BarrierFrozen { rest: v1::Rest::from(rest).into() }),
        Answer::Cut => WireAnswer::Cut(v1::BarrierCutDone {}),
        Answer::Thawed(paused) => {
            let paused_ns = u64::try_from(paused.as_nanos()).unwrap_or(u64::MAX);
            WireAnswer::Thawed(v1::BarrierThawed { paused_ns })
        }
        Answer::Sealed(sequence) => WireAnswer::Sealed(v1::BarrierSealed { sequence }),
        Answer::Refused(why) => WireAnswer::Refused(v1::BarrierRefused { why: v1::BarrierRefusal::from(why).into() }),
    };
    v1::BarrierAnswer { barrier: Some(id.into()), answer: Some(answer) }
}

/// An answer from the wire.
///
/// # Errors
/// What is missing in it, or unknown.
pub fn answer_of(wire: v1::BarrierAnswer) -> Result<(BarrierId, Answer), BarrierError> {
    let id = wire.barrier.ok_or(BarrierError::NoBarrier)?.into();
    let answer = match wire.answer.ok_or(BarrierError::Unknown)? {
        WireAnswer::Prepared(_) => Answer::Prepared,
        WireAnswer::Frozen(frozen) => {
            Answer::Frozen(v1::Rest::try_from(frozen.rest).map_err(|_| BarrierError::NoRest)?.try_into()?)
        }
        WireAnswer::Cut(_) => Answer::Cut,
        WireAnswer::Thawed(thawed) => Answer::Thawed(Duration::from_nanos(thawed.paused_ns)),
        WireAnswer::Sealed(v1::BarrierSealed { sequence: 0 }) => return Err(BarrierError::NoCheckpoint),
        WireAnswer::Sealed(sealed) => Answer::Sealed(sealed.sequence),
        WireAnswer::Refused(refused) => {
            let why = v1::BarrierRefusal::try_from(refused.why).map_err(|_| BarrierError::NoReason)?;
            Answer::Refused(why.try_into()?)
        }
    };
    Ok((id, answer))
}

impl From<Rest> for v1::Rest {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Crash => Self::None,
            Rest::Hooks => Self::Hooks,
            Rest::Frozen => Self::Frozen,
        }
    }
}

impl TryFrom<v1::Rest> for Rest {
    type Error = BarrierError;

    fn try_from(rest: v1::Rest) -> Result<Self, BarrierError> {
        match rest {
            v1::Rest::Unspecified => Err(BarrierError::NoRest),
            v1::Rest::None => Ok(Self::Crash),
            v1::Rest::Hooks => Ok(Self::Hooks),
            v1::Rest::Frozen => Ok(Self::Frozen),
        }
    }
}

impl From<Refusal> for v1::BarrierRefusal {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::Stale => Self::Stale,
            Refusal::OutOfTurn => Self::OutOfTurn,
            Refusal::NotPrepared => Self::NotPrepared,
            Refusal::NotFrozen => Self::NotFrozen,
            Refusal::BudgetSpent => Self::BudgetSpent,
            Refusal::NotCut => Self::NotCut,
            Refusal::NotSealed => Self::NotSealed,
        }
    }
}

impl TryFrom<v1::BarrierRefusal> for Refusal {
    type Error = BarrierError;

    fn try_from(why: v1::BarrierRefusal) -> Result<Self, BarrierError> {
        Ok(match why {
            v1::BarrierRefusal::Unspecified => return Err(BarrierError::NoReason),
            v1::BarrierRefusal::Stale => Self::Stale,
            v1::BarrierRefusal::OutOfTurn => Self::OutOfTurn,
            v1::BarrierRefusal::NotPrepared => Self::NotPrepared,
            v1::BarrierRefusal::NotFrozen => Self::NotFrozen,
            v1::BarrierRefusal::BudgetSpent => Self::BudgetSpent,
            v1::BarrierRefusal::NotCut => Self::NotCut,
            v1::BarrierRefusal::NotSealed => Self::NotSealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    const ID: BarrierId = BarrierId { epoch: 7, number: 3 };

    #[test]
    fn what_is_said_is_what_is_heard() {
        let budget = Duration::from_millis(250);
        for said in [Order::Prepare, Order::Freeze { budget }, Order::Cut, Order::Thaw] {
            let bytes = order(ID, said).encode_to_vec();
            assert_eq!(order_of(v1::BarrierOrder::decode(&*bytes).expect("read")), Ok((ID, said)));
        }
        let rests = [Rest::Crash, Rest::Hooks, Rest::Frozen].map(Answer::Frozen);
        let refusals = [
            Refusal::Stale,
            Refusal::OutOfTurn,
            Refusal::NotPrepared,
            Refusal::NotFrozen,
            Refusal::BudgetSpent,
            Refusal::NotCut,
            Refusal::NotSealed,
        ];
        let others = [Answer::Prepared, Answer::Cut, Answer::Thawed(Duration::from_nanos(1_234_567)), Answer::Sealed(9)];
        for said in rests.into_iter().chain(refusals.map(Answer::Refused)).chain(others) {
            let bytes = answer(ID, said).encode_to_vec();
            assert_eq!(answer_of(v1::BarrierAnswer::decode(&*bytes).expect("read")), Ok((ID, said)));
        }
    }

    #[test]
    fn a_budget_is_never_made_longer() {
        let told = order_of(order(ID, Order::Freeze { budget: Duration::from_micros(1_999) }));
        assert_eq!(told, Ok((ID, Order::Freeze { budget: Duration::from_millis(1) })));
        let none = order_of(order(ID, Order::Freeze { budget: Duration::from_micros(999) }));
        assert_eq!(none, Err(BarrierError::NoBudget), "a rest without end must not come of it");
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        let barrier = Some(v1::BarrierId::from(ID));
        let ordered = |barrier, order| order_of(v1::BarrierOrder { barrier, order });
        assert_eq!(ordered(None, Some(WireOrder::Cut(v1::BarrierCut {}))), Err(BarrierError::NoBarrier));
        assert_eq!(ordered(barrier, None), Err(BarrierError::Unknown));
        let answered = |answer| answer_of(v1::BarrierAnswer { barrier, answer });
        assert_eq!(answered(None), Err(BarrierError::Unknown));
        for rest in [0, 4, -1] {
            assert_eq!(answered(Some(WireAnswer::Frozen(v1::BarrierFrozen { rest }))), Err(BarrierError::NoRest));
        }
        for why in [0, 8, -1] {
            assert_eq!(answered(Some(WireAnswer::Refused(v1::BarrierRefused { why }))), Err(BarrierError::NoReason));
        }
        let sealed = answered(Some(WireAnswer::Sealed(v1::BarrierSealed { sequence: 0 })));
        assert_eq!(sealed, Err(BarrierError::NoCheckpoint));
    }
}
