// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::collection::Look;
use crate::policy::{Tier, Window};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(1_800_000_000_000_000_000 + seconds * 1_000_000_000)
}

fn point(sequence: u64, seconds: i64) -> Point {
    Point { sequence, said: at(seconds), quality: Quality::Clean }
}

/// A lineage with a checkpoint each second, which a collector looks at from time to time.
struct Log {
    retention: Retention,
    boundary: u64,
    kept: Vec<Kept>,
    looks: Looks,
    points: Vec<Point>,
    needed: BTreeMap<u64, Why>,
    condemned: BTreeSet<u64>,
}

impl Log {
    fn new(keep_all: u64, tiers: &[(Window, u32)]) -> Self {
        let tiers = tiers.iter().map(|(window, count)| Tier { window: *window, count: *count }).collect();
        Self {
            retention: Retention { keep_all: Duration::from_secs(keep_all), tiers },
            boundary: 1,
            kept: Vec::new(),
            looks: Looks::default(),
            points: Vec::new(),
            needed: BTreeMap::new(),
            condemned: BTreeSet::new(),
        }
    }

    fn write(&mut self, seconds: impl IntoIterator<Item = i64>) {
        for second in seconds {
            let next = self.points.last().map_or(self.boundary.max(2), |last| last.sequence + 1);
            self.points.push(point(next, second));
        }
    }

    fn plan(&self, now: i64) -> Thinned {
        self.plan_at_most(now, 100_000)
    }

    fn plan_at_most(&self, now: i64, gone_max: usize) -> Thinned {
        let head = self.points.last().expect("a checkpoint");
        thin(&Thinning {
            now: at(now),
            retention: &self.retention,
            margin: Duration::ZERO,
            boundary: self.boundary,
            kept: &self.kept,
            looks: &self.looks,
            upto: head.sequence,
            points: &self.points,
            newest: *head,
            needed: &self.needed,
            condemned: &self.condemned,
            gone_max,
        })
    }

    fn collect(&mut self, now: i64) -> Thinned {
        let head = *self.points.last().expect("a checkpoint");
        assert!(self.looks.add(head.sequence, at(now), head.said));
        let plan = self.plan(now);
        self.boundary = plan.boundary;
        self.kept = plan.kept.iter().map(|(kept, _)| *kept).collect();
        self.points.retain(|point| point.sequence >= plan.boundary);
        self.looks.forget_before(plan.boundary);
        plan
    }

    /// The seconds of what remains.
    fn remaining(&self) -> Vec<i64> {
        let kept = self.kept.iter().filter(|kept| kept.quality.is_some()).map(|kept| kept.time);
        let all = kept.chain(self.points.iter().map(|point| point.said));
        all.map(|time| (time.nanos() - at(0).nanos()) / 1_000_000_000).collect()
    }
}

#[test]
fn the_young_stay_above_the_boundary_and_the_old_are_thinned() {
    let mut log = Log::new(10, &[(Window::Every(Duration::from_secs(10)), 4)]);
    log.write(0..60);
    let plan = log.collect(59);
    assert_eq!(plan.boundary, 52, "everything younger than ten seconds lies above it");
    assert_eq!(log.remaining()[..5], [29, 39, 49, 50, 51]);
    assert!(plan.gone.contains(&1), "a claim that nobody needs goes, too");
    log.write(60..80);
    log.collect(79);
    assert_eq!(log.remaining()[..3], [49, 59, 69]);
}

#[test]
fn what_is_needed_stays_whatever_the_policy_says() {
    let mut log = Log::new(5, &[]);
    log.write(0..30);
    log.needed = BTreeMap::from([(1, Why::Birth), (7, Why::Pinned), (12, Why::Snapshot)]);
    let plan = log.collect(29);
    let kept: Vec<_> = plan.kept.iter().map(|(kept, why)| (kept.sequence, *why)).collect();
    assert_eq!(kept[..3], [(1, Why::Birth), (7, Why::Pinned), (12, Why::Snapshot)]);
    assert!(plan.gone.iter().all(|gone| !log.needed.contains_key(gone)));
    log.needed.remove(&7);
    assert!(log.collect(29).gone.contains(&7), "and goes when nobody needs it any more");
    log.needed.insert(7, Why::Pinned);
    assert!(log.collect(29).kept.iter().all(|(kept, _)| kept.sequence != 7), "what is gone is not brought back");
}

#[test]
fn a_lineage_that_nobody_writes_to_keeps_what_it_has() {
    let mut log = Log::new(5, &[(Window::Every(Duration::from_secs(10)), 3)]);
    log.write(0..30);
    log.collect(29);
    let before = log.remaining();
    log.collect(1_000_000);
    assert_eq!(log.remaining(), before);
}

#[test]
fn no_single_clock_ages_anything() {
    // the collector's leaps ahead
    let mut log = Log::new(20, &[]);
    log.write(0..30);
    assert_eq!(log.plan(10_000_000).boundary, log.plan(29).boundary);
    // the writer's was far behind for a while: at the last look those records were not there yet
    let mut log = Log::new(6, &[]);
    log.write(0..30);
    log.looks = Looks::new(vec![Look { head: 25, at: at(24) }]);
    for point in &mut log.points[24..28] {
        point.said = at(-1_000_000);
    }
    assert_eq!(log.plan(29).boundary, 26);
    // the writer's was far ahead: what it made then is not younger than the collector's next look
    let mut log = Log::new(20, &[]);
    log.write([5_000_000]);
    log.write(1..100);
    log.looks = Looks::new(vec![Look { head: 3, at: at(2) }]);
    assert!(log.plan(99).gone.contains(&2), "{:?}", log.plan(99));
}

#[test]
fn of_each_window_the_last_clean_one_stays_too() {
    let mut log = Log::new(0, &[(Window::Every(Duration::from_secs(10)), 10)]);
    log.write(0..40);
    for point in &mut log.points {
        point.quality = match point.sequence {
            11 => Quality::Fuzzy,
            21 => Quality::Partial,
            _ => Quality::Clean,
        };
    }
    log.collect(39);
    assert_eq!(log.remaining()[..3], [8, 9, 18], "9 is fuzzy, 19 was not finished");
}

#[test]
fn what_was_condemned_is_not_saved_by_a_longer_policy() {
    let mut log = Log::new(5, &[(Window::Every(Duration::from_secs(1)), 100)]);
    log.write(0..30);
    log.condemned = BTreeSet::from([9]);
    let plan = log.collect(29);
    assert!(plan.gone == [1, 9], "{:?}", plan.gone);
}

#[test]
fn a_long_arrear_is_worked_off_in_parts() {
    let mut log = Log::new(5, &[]);
    log.write(0..1000);
    let mut rounds = 0;
    loop {
        let plan = log.plan_at_most(999, 100);
        assert!(plan.gone.len() <= 101);
        if plan.boundary == log.boundary {
            break;
        }
        rounds += 1;
        log.boundary = plan.boundary;
        log.kept = plan.kept.iter().map(|(kept, _)| *kept).collect();
        log.points.retain(|point| point.sequence >= plan.boundary);
    }
    assert_eq!((rounds, log.boundary), (10, 997));
}

/// A year of a checkpoint each second, looked at once an hour: what remains, and what an hour's plan has to look at.
#[test]
fn a_year_of_seconds_stays_small() {
    let tiers = [(Window::Hour, 48), (Window::Day, 30), (Window::Month, 12)];
    let mut log = Log::new(3600, &tiers);
    let (mut most_kept, mut gone) = (0, 0);
    // every tenth second stands for itself and nine more: the plan's size is what counts
    for hour in 0..365 * 24_i64 {
        log.write((0..360).map(|step| hour * 3600 + step * 10));
        let plan = log.collect(hour * 3600 + 3599);
        most_kept = most_kept.max(plan.kept.len());
        gone += plan.gone.len();
    }
    assert!(most_kept <= 48 + 30 + 12 + 2, "{most_kept} are kept");
    assert!(log.points.len() <= 2 * 360 + 1, "{} lie above the boundary", log.points.len());
    assert!(gone > 3_100_000, "{gone}");
}
