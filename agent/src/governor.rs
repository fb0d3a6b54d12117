// SPDX-License-Identifier: Apache-2.0
//! Not more than one may: what is spent of a processor, of reads and of uploads, and how long to rest for it.

use crate::clock::SystemClock;
use crate::config::Budget;
use async_trait::async_trait;
use bytes::Bytes;
use holdfast_core::time::Monotonic;
use holdfast_store::name::Name;
use holdfast_store::transport::{Body, Created, Page, Range, Transport, TransportError};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What may be spent at once after a rest: so much time's worth of the rate. Small captures fit into it, and are not slowed.
const BURST: Duration = Duration::from_secs(2);
/// Rests shorter than this are put off: waking up costs more.
const REST_MIN: Duration = Duration::from_millis(5);

/// Fills at a rate, is drawn from, and may be overdrawn: then there is a rest to take.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Units a second.
    rate: f64,
    level: f64,
    at: Monotonic,
}

impl Bucket {
    fn new(rate: f64, now: Monotonic) -> Self {
        Self { rate, level: rate * BURST.as_secs_f64(), at: now }
    }

    /// Takes an amount; says how long to rest.
    fn take(&mut self, now: Monotonic, amount: f64) -> Duration {
        let filled = self.rate * now.since(self.at).as_secs_f64();
        self.level = (self.level + filled).min(self.rate * BURST.as_secs_f64()) - amount;
        self.at = now;
        if self.level >= 0.0 { Duration::ZERO } else { Duration::try_from_secs_f64(-self.level / self.rate).unwrap_or_default() }
    }
}

#[derive(Debug)]
struct Buckets {
    cpu: Option<Bucket>,
    /// The processor time that was paid for.
    paid: Duration,
    read: Option<Bucket>,
}

impl Buckets {
    /// How long to rest for the processor time spent so far, and for these bytes.
    fn rest(&mut self, now: Monotonic, spent: Duration, read_bytes: u64) -> Duration {
        let cpu = spent.saturating_sub(self.paid).as_secs_f64();
        self.paid = spent;
        #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let read = read_bytes as f64;
        let take =
            |bucket: &mut Option<Bucket>, amount| bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(now, amount));
        take(&mut self.cpu, cpu).max(take(&mut self.read, read))
    }
}

/// Paces captures. Clones pace together.
#[derive(Debug, Clone)]
pub(crate) struct Governor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    buckets: Mutex<Buckets>,
    /// There is no time any more: nobody rests.
    hurry: AtomicBool,
    /// Somebody waits for what is being done: what it costs is paid for afterwards.
    owing: AtomicBool,
    hurried: Condvar,
    /// Nothing is limited.
    free: bool,
}

/// Processor time of this process so far, all threads together.
pub(crate) fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

impl Governor {
    pub(crate) fn new(budget: Budget) -> Self {
        let now = SystemClock.monotonic();
        let cpu = budget.cpu_millis.map(|millis| Bucket::new(f64::from(millis.max(1)) / 1000.0, now));
        #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let read = budget.read_bytes_per_second.map(|rate| Bucket::new(rate.max(1) as f64, now));
        let free = cpu.is_none() && read.is_none();
        let buckets = Mutex::new(Buckets { cpu, paid: processor_time(), read });
        let (hurry, owing, hurried) = (AtomicBool::new(false), AtomicBool::new(false), Condvar::new());
        Self { inner: Arc::new(Inner { buckets, hurry, owing, hurried, free }) }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.inner.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody rests.
    pub(crate) fn hurry(&self) {
        let _buckets = self.buckets(); // whoever is about to rest has either seen this, or will be woken
        self.inner.hurry.store(true, Ordering::SeqCst);
        self.inner.hurried.notify_all();
    }

    /// Does something that an application at rest waits for: nobody rests meanwhile, and whoever comes next pays for it.
    pub(crate) fn owing<T>(&self, work: impl FnOnce() -> T) -> T {
        self.inner.owing.store(true, Ordering::SeqCst);
        let done = work();
        self.inner.owing.store(false, Ordering::SeqCst);
        done
    }

    /// Rests as long as it takes to have paid for the processor time spent, and for these bytes. Blocks.
    pub(crate) fn pace(&self, read_bytes: u64) {
        if self.inner.free || self.inner.hurry.load(Ordering::Relaxed) {
            return;
        }
        let (now, spent) = (SystemClock.monotonic(), processor_time());
        let mut buckets = self.buckets();
        let rest = buckets.rest(now, spent, read_bytes);
        if rest < REST_MIN || self.inner.owing.load(Ordering::SeqCst) {
            return;
        }
        let in_a_hurry = |_: &mut Buckets| !self.inner.hurry.load(Ordering::SeqCst);
        drop(self.inner.hurried.wait_timeout_while(buckets, rest, in_a_hurry));
    }
}

/// A transport that creates no more bytes a second than it may.
#[derive(Debug)]
pub struct Paced {
    inner: Arc<dyn Transport>,
    bucket: Mutex<Bucket>,
    hurry: tokio::sync::watch::Receiver<bool>,
}

impl Paced {
    /// At most so many bytes a second, until `hurry` says that there is no time for it.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, bytes_per_second: u64, hurry: tokio::sync::watch::Receiver<bool>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let bucket = Bucket::new(bytes_per_second.max(1) as f64, SystemClock.monotonic());
        Self { inner, bucket: Mutex::new(bucket), hurry }
    }

    /// Cancel-safe: what was not waited for is owed by whoever comes next.
    async fn rest(&self, bytes: usize) {
        #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let amount = bytes as f64;
        let rest = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(SystemClock.monotonic(), amount);
        if rest < REST_MIN {
            return;
        }
        let mut hurry = self.hurry.clone();
        let in_a_hurry = async {
            // nobody can say so any more: then it is never
            if hurry.wait_for(|hurry| *hurry).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = in_a_hurry => {}
        }
    }
}

#[async_trait]
impl Transport for Paced {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.rest(body.bytes.len()).await;
        self.inner.create(name, body).await
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.inner.get(name, range).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.inner.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.inner.delete(name).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_bucket_is_drawn_from_overdrawn_and_filled() {
        let mut bucket = Bucket::new(100.0, at(0));
        assert_eq!(bucket.take(at(0), 200.0), Duration::ZERO, "a burst");
        assert_eq!(bucket.take(at(0), 50.0), Duration::from_millis(500));
        assert_eq!(bucket.take(at(500), 0.0), Duration::ZERO, "the rest paid for it");
        assert_eq!(bucket.take(at(500), 100.0), Duration::from_secs(1));
        assert_eq!(bucket.take(at(1_000_000), 200.0), Duration::ZERO);
        assert_eq!(bucket.take(at(1_000_000), 1.0), Duration::from_millis(10), "it never holds more than a burst");
    }

    #[test]
    fn reading_is_paced_and_a_hurry_ends_the_rest() {
        let governor = Governor::new(Budget { cpu_millis: None, read_bytes_per_second: Some(1000) });
        let began = Instant::now();
        governor.pace(2000);
        governor.pace(100);
        assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
        let resting = governor.clone();
        let thread = std::thread::spawn(move || resting.pace(1_000_000_000));
        governor.hurry();
        thread.join().expect("it ended");
        governor.pace(1_000_000_000);
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn what_an_application_waits_for_is_paid_for_afterwards() {
        let governor = Governor::new(Budget { cpu_millis: None, read_bytes_per_second: Some(1_000_000) });
        let began = Instant::now();
        governor.owing(|| governor.pace(2_000_000 + 200_000));
        let waited = began.elapsed();
        governor.pace(0);
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        assert!(waited < Duration::from_millis(150), "{waited:?}");
    }

    #[test]
    fn processor_time_is_paid_for_by_rests() {
        let cpu = Some(Bucket::new(0.05, at(0)));
        let mut buckets = Buckets { cpu, paid: Duration::from_secs(1), read: Some(Bucket::new(1000.0, at(0))) };
        let millis = Duration::from_millis;
        assert_eq!(
            buckets.rest(at(0), millis(1100), 0),
            Duration::ZERO,
            "what was spent before does not count, and 100 ms are a burst"
        );
        assert_eq!(buckets.rest(at(0), millis(1150), 0).as_millis(), 1000);
        assert_eq!(buckets.rest(at(1000), millis(1150), 7000).as_millis(), 5000, "whatever takes longer");
        assert!(processor_time() > Duration::ZERO);
    }

    #[tokio::test]
    async fn uploads_are_paced_and_nothing_else() {
        let (hurry, hurried) = tokio::sync::watch::channel(false);
        let memory: Arc<dyn Transport> = Arc::new(holdfast_store::transport::memory::Memory::default());
        let paced = Arc::new(Paced::new(memory, 10_000, hurried));
        let name = |number: u8| Name::listed(&format!("lineages/{number:032x}")).unwrap_or_else(|| panic!("a name"));
        let began = Instant::now();
        paced.rest(20_000).await;
        paced.rest(1_000).await;
        assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
        assert_eq!(paced.size(&name(1)).await.expect("an answer"), None);
        let resting = Arc::clone(&paced);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { resting.rest(1_000_000_000).await });
        hurry.send_replace(true);
        tasks.join_next().await.expect("a task").expect("it ended");
    }
}
