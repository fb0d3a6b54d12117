// SPDX-License-Identifier: Apache-2.0
//! Verdicts that are believed for a while, each asked for once.

use super::Refusal;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Verdicts at once; more make the old ones go, and then all.
const VERDICTS_MAX: usize = 20_000;

type Key = [u8; 32];

#[derive(Debug)]
struct Verdict<T> {
    until: Instant,
    cell: OnceCell<Result<T, String>>,
}

/// Verdicts by the hash of what they are about.
#[derive(Debug)]
pub(super) struct Cache<T> {
    believed: Duration,
    verdicts: Mutex<HashMap<Key, Arc<Verdict<T>>>>,
}

impl<T: Clone> Cache<T> {
    /// Verdicts are believed for at most so long.
    pub(super) fn new(believed: Duration) -> Self {
        Self { believed, verdicts: Mutex::default() }
    }

    /// The verdict, from whoever has it or by asking. No answer is no verdict: the next one asks again.
    pub(super) async fn ask<A: Future<Output = Result<T, Refusal>>>(
        &self,
        now: Instant,
        key: Key,
        ask: impl FnOnce() -> A,
    ) -> Result<T, Refusal> {
        let verdict = self.verdict(now, key);
        let asked = async || match ask().await {
            Ok(yes) => Ok(Ok(yes)),
            Err(Refusal::No(why)) => Ok(Err(why)),
            Err(Refusal::Unavailable(why)) => Err(why),
        };
        match verdict.cell.get_or_try_init(asked).await {
            Ok(Ok(yes)) => Ok(yes.clone()),
            Ok(Err(why)) => Err(Refusal::No(why.clone())),
            Err(why) => Err(Refusal::Unavailable(why)),
        }
    }

    fn verdict(&self, now: Instant, key: Key) -> Arc<Verdict<T>> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = verdicts.get(&key).filter(|known| known.until > now) {
            return Arc::clone(known);
        }
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.retain(|_, known| known.until > now);
        }
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.clear();
        }
        // up to a third less: those who came together don't come back together
        let less = self.believed / 3 * u32::from(key[0]) / 255;
        let verdict = Arc::new(Verdict { until: now + self.believed - less, cell: OnceCell::new() });
        verdicts.insert(key, Arc::clone(&verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_verdict_is_asked_for_once_and_believed_for_a_while() {
        let cache: Cache<u8> = Cache::new(Duration::from_secs(30));
        let asked = AtomicUsize::new(0);
        let now = Instant::now();
        let ask = |answer: Result<u8, Refusal>| {
            let asked = &asked;
            move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer
            }
        };
        let many = (0..1000).map(|_| cache.ask(now, [9; 32], ask(Ok(7))));
        for answer in futures::future::join_all(many).await {
            assert_eq!(answer, Ok(7));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "all at once");
        let later = now + Duration::from_secs(31);
        assert_eq!(cache.ask(later, [9; 32], ask(Err(Refusal::No("no".to_owned())))).await, Err(Refusal::No("no".to_owned())));
        assert_eq!(cache.ask(later, [9; 32], ask(Ok(8))).await, Err(Refusal::No("no".to_owned())), "a no is a verdict, too");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let away = || Err(Refusal::Unavailable("away".to_owned()));
        assert_eq!(cache.ask(now, [1; 32], ask(away())).await, away());
        assert_eq!(cache.ask(now, [1; 32], ask(Ok(3))).await, Ok(3), "an outage is none");
    }
}
