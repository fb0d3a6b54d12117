// SPDX-License-Identifier: Apache-2.0
//! Who leads: what to do with the lease as it was just read. No two machines' clocks are compared: whoever waits counts the lease's duration from
//! when it saw the last renewal, whoever leads counts from before it asked for one.

use holdfast_core::time::Monotonic;
use std::time::Duration;

/// The times of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Nobody else takes it before it was seen unrenewed for so long.
    pub(crate) duration: Duration,
    /// The leader renews it this often.
    pub(crate) renew_every: Duration,
    /// A leader that could not renew it for so long leads no more. What is left of the duration is for ending.
    pub(crate) give_up_after: Duration,
}

impl Timing {
    /// The times that go with a duration.
    pub(crate) fn of(duration: Duration) -> Self {
        Self { duration, renew_every: duration / 5, give_up_after: duration * 7 / 10 }
    }
}

/// A lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// Who holds it; nobody after a release.
    pub(crate) holder: Option<String>,
    /// Which write made it so.
    pub(crate) version: String,
    /// For how long its holder wants it.
    pub(crate) duration: Option<Duration>,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Write one's own name into it, on condition that nobody else has written.
    Take,
    /// Renew it, on the same condition.
    Renew,
    /// Leave it: somebody else leads, or may.
    Leave,
    /// It was lost.
    Resign,
}

/// One candidate.
#[derive(Debug)]
pub(crate) struct Election {
    name: String,
    timing: Timing,
    seen: Option<(String, Monotonic)>,
    /// When the lease was last read.
    read: Monotonic,
    /// It could not be read since.
    blind: bool,
    renewed: Option<Monotonic>,
}

impl Election {
    /// A candidate that has seen nothing yet. Its name must be its own for ever, restarts included.
    pub(crate) const fn new(name: String, timing: Timing) -> Self {
        Self { name, timing, seen: None, read: Monotonic(Duration::ZERO), blind: false, renewed: None }
    }

    /// The lease could not be read. Whoever leads could not renew it then, perhaps: that time does not count as its silence, and so the leader of before
    /// an outage, whom everybody knows the way to, is the first to lead after it.
    pub(crate) const fn missed(&mut self) {
        self.blind = true;
    }

    /// What to do with the lease as it was read just now.
    pub(crate) fn read(&mut self, now: Monotonic, lease: &View) -> Wish {
        let unseen = if std::mem::take(&mut self.blind) { now.since(self.read) } else { Duration::ZERO };
        self.read = now;
        let holder = lease.holder.as_deref().filter(|holder| !holder.is_empty());
        if self.renewed.is_some() {
            // nobody takes it before our time is up; that it was taken away all the same is somebody's decision
            let wish = if holder == Some(&self.name) { Wish::Renew } else { Wish::Resign };
            if wish == Wish::Resign {
                self.resign();
            }
            return wish;
        }
        match holder {
            None => Wish::Take,
            // a write whose answer got lost
            Some(holder) if holder == self.name => Wish::Take,
            Some(_) => match &mut self.seen {
                Some((version, since)) if *version == lease.version => {
                    *since = since.plus(unseen);
                    let patience = lease.duration.unwrap_or_default().max(self.timing.duration);
                    if now.since(*since) >= patience { Wish::Take } else { Wish::Leave }
                }
                _ => {
                    self.seen = Some((lease.version.clone(), now));
                    Wish::Leave
                }
            },
        }
    }

    /// A write of ours was acknowledged; the time counts from before it was asked for.
    pub(crate) fn wrote(&mut self, asked: Monotonic) {
        self.renewed = Some(asked);
        self.seen = None;
    }

    /// Leads no more.
    pub(crate) fn resign(&mut self) {
        self.renewed = None;
        self.seen = None;
    }

    /// Until when it leads unless it renews; `None`: it doesn't.
    pub(crate) fn leads_until(&self) -> Option<Monotonic> {
        self.renewed.map(|renewed| renewed.plus(self.timing.give_up_after))
    }

    /// From when on another may lead.
    pub(crate) fn others_from(&self) -> Option<Monotonic> {
        self.renewed.map(|renewed| renewed.plus(self.timing.duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn timing() -> Timing {
        Timing::of(Duration::from_secs(10))
    }

    fn view(holder: &str, version: u64) -> View {
        View { holder: Some(holder.to_owned()), version: version.to_string(), duration: Some(Duration::from_secs(10)) }
    }

    #[test]
    fn a_free_lease_is_taken_and_a_renewed_one_left() {
        let mut me = Election::new("a".to_owned(), timing());
        assert_eq!(me.read(at(0), &View::default()), Wish::Take);
        let mut other = Election::new("b".to_owned(), timing());
        for second in 0..60 {
            assert_eq!(other.read(at(second * 1000), &view("a", second / 2)), Wish::Leave, "renewed every two seconds");
        }
        assert_eq!(other.read(at(67_999), &view("a", 29)), Wish::Leave);
        assert_eq!(other.read(at(68_000), &view("a", 29)), Wish::Take, "seen at 58 s for the first time");
    }

    #[test]
    fn who_could_not_renew_ends_before_another_begins() {
        let mut me = Election::new("a".to_owned(), timing());
        me.wrote(at(1000));
        assert_eq!((me.leads_until(), me.others_from()), (Some(at(8000)), Some(at(11_000))));
        assert_eq!(me.read(at(3000), &view("a", 1)), Wish::Renew);
        assert_eq!(me.read(at(5000), &view("b", 2)), Wish::Resign, "somebody took it");
        assert_eq!(me.leads_until(), None);
    }

    #[test]
    fn who_asks_for_more_time_gets_it() {
        let mut me = Election::new("a".to_owned(), timing());
        let patient = View { duration: Some(Duration::from_secs(60)), ..view("b", 1) };
        assert_eq!(me.read(at(0), &patient), Wish::Leave);
        assert_eq!(me.read(at(59_000), &patient), Wish::Leave);
        assert_eq!(me.read(at(60_000), &patient), Wish::Take);
    }

    #[test]
    fn silence_counts_only_while_somebody_could_be_heard() {
        let (mut before, mut other) = (Election::new("a".to_owned(), timing()), Election::new("b".to_owned(), timing()));
        before.wrote(at(0));
        assert_eq!(other.read(at(1000), &view("a", 1)), Wish::Leave);
        assert_eq!(other.read(at(3000), &view("a", 1)), Wish::Leave);
        other.missed();
        other.missed();
        before.resign();
        // nobody could read it for 27 seconds
        assert_eq!(other.read(at(30_000), &view("a", 1)), Wish::Leave);
        assert_eq!(other.read(at(37_999), &view("a", 1)), Wish::Leave);
        assert_eq!(other.read(at(38_000), &view("a", 1)), Wish::Take, "ten seconds of silence are two before and eight after");
        assert_eq!(before.read(at(31_000), &view("a", 1)), Wish::Take, "its own is waited for by nobody");
    }

    proptest! {
        /// Three candidates against one lease with conditional writes, whose answers may be late or get lost, in any order: never two at once.
        #[test]
        fn never_two_lead(steps in prop::collection::vec((0_usize..3, 0_u64..4000, 0_u8..8, 0_u64..3000), 1..300)) {
            let mut candidates: Vec<Election> = ["a", "b", "c"].into_iter().map(|name| Election::new(name.to_owned(), timing())).collect();
            let (mut lease, mut now) = (View::default(), 0);
            for (who, pause, fate, delay) in steps {
                now += pause;
                let read = lease.clone();
                let wish = candidates[who].read(at(now), &read);
                let asked = at(now);
                now += delay;
                if matches!(wish, Wish::Take | Wish::Renew) && fate != 0 {
                    // the condition: nobody has written since it was read, which nobody can in this order
                    let version: u64 = lease.version.parse().unwrap_or(0);
                    lease = view(["a", "b", "c"][who], version + 1);
                    if fate != 1 {
                        candidates[who].wrote(asked);
                    }
                }
                let leading = candidates.iter().filter(|one| one.leads_until().is_some_and(|until| at(now) < until)).count();
                prop_assert!(leading <= 1);
            }
        }
    }
}
