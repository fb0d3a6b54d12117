// SPDX-License-Identifier: Apache-2.0
//! The agent's part in a barrier: does what [`Member`] decides. The order in which things are done is the machine's; here they are only done.

use crate::agent::{Ask, Command, Cut, Grip, Rests, Word};
use crate::clock::SystemClock;
use crate::quiesce::{Came, Quiescing, Rester};
use crate::status::LastCheckpoint;
use holdfast_core::barrier::{Answer, BarrierId, Deed, Done, Member, Order};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// What is dirty is made durable until that takes no longer than this, since about as much is dirty then again, and while each time takes half as
/// long as the one before …
const LITTLE: Duration = Duration::from_millis(100);
/// … or so many times.
const ROUNDS: u32 = 3;
/// From then on no capture begins that nobody asks for: it would have to be waited for while the application rests.
const HOLD: Duration = Duration::from_secs(10);
/// How long an agent that ends waits until its application goes on; the keeper does it then.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Brings rest to an agent's checkpoints without a coordinator: where it asks for them, and what does it until `stop`.
/// `None` if they are to be made without rest.
pub fn rests_alone(quiescing: Quiescing, stop: impl Future<Output = ()>) -> Option<(Rests, impl Future<Output = ()>)> {
    let (rests, asks) = Rests::of(&quiescing)?;
    let serving = async move {
        // nobody takes orders: there are no barriers
        let (commands, _) = mpsc::channel(1);
        let mut part = Part::begin(quiescing, commands, Some(asks));
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = part.next() => {}
            }
        }
        part.close().await;
    };
    Some((rests, serving))
}

/// The agent's part.
pub(super) struct Part {
    member: Member,
    budget: Duration,
    rester: Rester,
    commands: mpsc::Sender<Command>,
    /// The agent asks for rests of its own.
    asks: Option<mpsc::Receiver<Ask>>,
    asked: Option<Ask>,
    /// Captures may be held back for a cut.
    holding: bool,
    doing: JoinSet<Done>,
    /// What is taken hold of, or about to be.
    held: Option<(BarrierId, Held)>,
    answers: Vec<(BarrierId, Answer)>,
}

/// The other side of a cut that was made.
struct Held {
    word: oneshot::Sender<Word>,
    sealed: oneshot::Receiver<Result<LastCheckpoint, String>>,
}

impl Part {
    pub(super) fn begin(quiescing: Quiescing, commands: mpsc::Sender<Command>, asks: Option<mpsc::Receiver<Ask>>) -> Self {
        let (member, deed) = Member::begin();
        let (budget, doing) = (quiescing.budget, JoinSet::new());
        let rester = Rester::new(quiescing);
        let (asked, holding, held, answers) = (None, false, None, Vec::new());
        let mut part = Self { member, budget, rester, commands, asks, asked, doing, holding, held, answers };
        part.perform(vec![deed]);
        part
    }

    /// The coordinator says something.
    pub(super) fn order(&mut self, id: BarrierId, order: Order) {
        let order = match order {
            Order::Freeze { budget } => Order::Freeze { budget: budget.min(self.budget) },
            other => other,
        };
        tracing::debug!(barrier = %id, ?order, "told");
        let deeds = self.member.order(SystemClock.monotonic(), id, order);
        self.perform(deeds);
    }

    /// The session is lost.
    pub(super) fn lost(&mut self) {
        let deeds = self.member.lost(SystemClock.monotonic());
        self.perform(deeds);
    }

    /// Waits until something has been done, or must be. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let deadline = self.member.deadline();
        let done = tokio::select! {
            came = self.rester.next() => Some(match came {
                Came::Rested(id, rest) => Done::Frozen(id, rest),
                Came::Goes => Done::Thawed,
            }),
            Some(done) = self.doing.join_next() => done.ok(),
            Some(ask) = asked(&mut self.asks) => return self.rest(ask),
            () = super::sleep_until(deadline), if deadline.is_some() => None,
        };
        let now = SystemClock.monotonic();
        let deeds = match done {
            Some(done) => self.member.done(now, done),
            None => self.member.tick(now),
        };
        self.perform(deeds);
    }

    /// The agent wants to capture a moment.
    fn rest(&mut self, ask: Ask) {
        self.asked = Some(ask);
        let deeds = self.member.rest(SystemClock.monotonic(), self.budget);
        self.perform(deeds);
    }

    /// What is to be said to the coordinator.
    pub(super) fn answers(&mut self) -> Vec<(BarrierId, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// The agent ends: the application goes on.
    pub(super) async fn close(mut self) {
        let deeds = self.member.end(SystemClock.monotonic());
        self.perform(deeds);
        let goes = async {
            while self.member.may_rest() {
                self.next().await;
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, goes).await.is_err() {
            tracing::warn!("the application could not be told to go on in time: its keeper does");
        }
    }

    fn perform(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            tracing::trace!(?deed, "does");
            match deed {
                Deed::PreCopy(id) => {
                    self.rester.arm();
                    self.holding = true;
                    let commands = self.commands.clone();
                    self.doing.spawn(async move { Done::Prepared(id, precopy(&commands).await) });
                }
                Deed::Freeze(id, budget) => self.rester.rest(id, budget),
                Deed::Thaw => {
                    self.rester.go_on();
                    if std::mem::take(&mut self.holding) {
                        // whoever has no room for this has more to do than captures
                        let _ = self.commands.try_send(Command::Hold(Duration::ZERO));
                    }
                }
                Deed::Cut(id) => self.cut(id),
                Deed::Seal(id) => self.seal(id),
                Deed::Pass(_) => self.asked = None,
                // dropped without a word, it is a checkpoint like others
                Deed::Forget(id) => self.held = self.held.take().filter(|(held, _)| *held != id),
                Deed::Say(id, answer) => self.answers.push((id, answer)),
            }
        }
    }

    fn cut(&mut self, id: BarrierId) {
        let (cut, Grip { taken, word, sealed }) = Cut::new();
        self.held = Some((id, Held { word, sealed }));
        let (own, commands) = (self.asked.take_if(|_| id.is_own()), self.commands.clone());
        self.doing.spawn(async move {
            let asked = match own {
                Some(own) => own.send(cut).is_ok(),
                None if id.is_own() => false,
                None => commands.send(Command::Cut(cut)).await.is_ok(),
            };
            Done::Cut(id, asked && taken.await.is_ok())
        });
    }

    fn seal(&mut self, id: BarrierId) {
        let Some((_, Held { word, sealed })) = self.held.take().filter(|(held, _)| *held == id) else { return };
        let kept = word.send(Word::Keep).is_ok();
        self.doing.spawn(async move {
            let sealed = if kept { sealed.await.ok().and_then(Result::ok) } else { None };
            Done::Sealed(id, sealed.map(|checkpoint| checkpoint.sequence))
        });
    }
}

async fn asked(asks: &mut Option<mpsc::Receiver<Ask>>) -> Option<Ask> {
    match asks {
        Some(asks) => asks.recv().await,
        None => None,
    }
}

/// Makes durable what is dirty, again while that takes long. Whether it is.
async fn precopy(commands: &mpsc::Sender<Command>) -> bool {
    let mut before = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let (answer, wait) = oneshot::channel();
        if commands.send(Command::Flush(answer)).await.is_err() {
            return false;
        }
        match wait.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error, "what is dirty could not be made durable for a snapshot");
                return false;
            }
            Err(_) => return false,
        }
        let took = began.elapsed();
        if took <= LITTLE || took > before / 2 {
            break;
        }
        before = took;
    }
    commands.send(Command::Hold(HOLD)).await.is_ok()
}
