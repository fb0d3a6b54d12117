// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a file lie, and what that says of two clones of it.
//!
//! Both clones hold on to their blocks, and a shared block is never written in place: what lies at the same place in both has the same bytes.

use super::super::changes::Changes;
use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags, FiemapFlags};
use std::io;
use std::os::fd::AsFd;

/// With any of these, the place of an extent tells nothing of its bytes.
const OPAQUE: FiemapExtentFlags = FiemapExtentFlags::UNKNOWN
    .union(FiemapExtentFlags::DELALLOC)
    .union(FiemapExtentFlags::ENCODED)
    .union(FiemapExtentFlags::DATA_ENCRYPTED)
    .union(FiemapExtentFlags::NOT_ALIGNED)
    .union(FiemapExtentFlags::DATA_INLINE)
    .union(FiemapExtentFlags::DATA_TAIL)
    .union(FiemapExtentFlags::UNWRITTEN)
    .union(FiemapExtentFlags::MERGED);
/// What is understood; whatever else the system may say one day tells nothing either.
const UNDERSTOOD: FiemapExtentFlags = FiemapExtentFlags::LAST.union(FiemapExtentFlags::SHARED);

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
    /// Where it lies; `None`: that doesn't tell what it holds.
    place: Option<u64>,
}

impl From<FiemapExtent> for Stretch {
    fn from(extent: FiemapExtent) -> Self {
        let known = !extent.fe_flags.intersects(OPAQUE) && UNDERSTOOD.contains(extent.fe_flags);
        let end = extent.fe_logical.saturating_add(extent.fe_length);
        Self { start: extent.fe_logical, end, place: known.then_some(extent.fe_physical) }
    }
}

/// Has the system write what it holds of a file, without keeping writers waiting: a clone does the same, but locks them out meanwhile.
pub(super) fn flush(fd: impl AsFd) {
    // the first extents come with it; whatever is wrong will be seen when it matters
    let _ = Fiemap::with_flags(fd, FiemapFlags::SYNC).next();
}

/// What of a file with these lengths may differ between two clones of it, or a clone and the file itself: both ways, holes included.
pub(super) fn compare(old: impl AsFd, new: impl AsFd, sizes: (u64, u64)) -> io::Result<Changes> {
    // once: each request that asks for it looks for what is to be written in all that follows, and eight extents come with each
    flush(&new);
    let stretches = |fd| Fiemap::new(fd).map(|extent| extent.map(Stretch::from));
    differences(stretches(old.as_fd()), stretches(new.as_fd()), sizes)
}

type Found = io::Result<Stretch>;

fn differences(
    mut old: impl Iterator<Item = Found>,
    mut new: impl Iterator<Item = Found>,
    (old_size, new_size): (u64, u64),
) -> io::Result<Changes> {
    let end = old_size.max(new_size);
    let mut changes = Changes::default();
    let (mut before, mut after) = (old.next().transpose()?, new.next().transpose()?);
    loop {
        let (one, two) = (before.as_ref(), after.as_ref());
        let Some(start) = one.into_iter().chain(two).map(|stretch| stretch.start).min() else { break };
        let here = |stretch: Option<&Stretch>| stretch.filter(|stretch| stretch.start == start).cloned();
        let (one_here, two_here) = (here(one), here(two));
        // up to here, the same of both is known: the ends of those that begin here, or the beginning of the other
        let until = one.into_iter().chain(two).map(|stretch| if stretch.start == start { stretch.end } else { stretch.start });
        let until = until.min().unwrap_or(end).max(start + 1);
        let same = match (&one_here, &two_here) {
            (Some(one), Some(two)) => one.place.is_some() && one.place == two.place,
            _ => false,
        };
        if !same {
            changes.add(start.min(end)..until.min(end));
        }
        if one_here.is_some() {
            before = rest(before, until, &mut old)?;
        }
        if two_here.is_some() {
            after = rest(after, until, &mut new)?;
        }
    }
    if old_size != new_size {
        // the last block of the shorter one is cut by its end
        changes.add_tail(old_size.min(new_size).saturating_sub(1), end);
    }
    Ok(changes)
}

/// What is left of a stretch from `from` on, or the next.
fn rest(stretch: Option<Stretch>, from: u64, more: &mut impl Iterator<Item = Found>) -> io::Result<Option<Stretch>> {
    match stretch {
        Some(Stretch { start, end, place }) if end > from => {
            Ok(Some(Stretch { start: from, end, place: place.map(|place| place + (from - start)) }))
        }
        _ => more.next().transpose(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Blocks = BTreeMap<u64, Option<u64>>;

    fn stretch(start: u64, end: u64, place: u64) -> Found {
        Ok(Stretch { start, end, place: Some(place) })
    }

    fn changed(old: &[(u64, u64, u64)], new: &[(u64, u64, u64)], sizes: (u64, u64)) -> Vec<u64> {
        let all = |list: &[(u64, u64, u64)]| list.iter().map(|(a, b, p)| stretch(*a, *b, *p)).collect::<Vec<_>>();
        let changes = differences(all(old).into_iter(), all(new).into_iter(), sizes).expect("both were read");
        (0..100).filter(|at| changes.next(*at).is_some_and(|range| range.start == *at)).collect()
    }

    #[test]
    fn moved_written_punched_and_appended_ranges_differ() {
        let list = |range: std::ops::Range<u64>| range.collect::<Vec<_>>();
        assert_eq!(changed(&[(0, 50, 1000)], &[(0, 50, 1000)], (50, 50)), list(0..0));
        assert_eq!(changed(&[(0, 50, 1000)], &[(0, 10, 1000), (10, 20, 3000), (20, 50, 1020)], (50, 50)), list(10..20));
        assert_eq!(changed(&[(0, 50, 1000)], &[(0, 10, 1000), (30, 50, 1030)], (50, 50)), list(10..30), "punched");
        assert_eq!(changed(&[(20, 30, 1000)], &[(0, 5, 9), (20, 30, 1000)], (50, 50)), list(0..5), "filled");
        assert_eq!(changed(&[(0, 50, 1000)], &[(0, 50, 1010)], (50, 50)), list(0..50), "shifted");
        assert_eq!(changed(&[(0, 30, 0)], &[(0, 30, 0), (30, 40, 60)], (30, 40)), list(29..40), "appended");
        assert_eq!(changed(&[(0, 30, 0)], &[(0, 20, 0)], (30, 20)), list(19..30), "cut");
        assert_eq!(changed(&[], &[(4, 8, 0)], (8, 8)), list(4..8));
    }

    #[test]
    fn what_cannot_be_told_counts_as_changed() {
        for flags in [0x2, 0x4, 0x8, 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x8000_0000] {
            let flags = FiemapExtentFlags::from_bits_retain(flags);
            assert!(flags.intersects(OPAQUE) || !UNDERSTOOD.contains(flags), "{flags:?}");
        }
        let unknown = || [Ok(Stretch { start: 0, end: 9, place: None })].into_iter();
        let changes = differences(unknown(), unknown(), (9, 9)).expect("both were read");
        assert_eq!(changes.next(0), Some(0..9));
        let failing = [Err(io::Error::other("gone"))].into_iter();
        assert!(differences(unknown(), failing, (9, 9)).is_err());
    }

    /// Any two files made of blocks: a block differs if its place does.
    #[test]
    fn any_two_layouts_are_compared_block_by_block() {
        let mut dice = crate::testkit::Dice::new(5);
        let mut layout = || {
            let (mut blocks, mut at) = (Blocks::new(), 0);
            while at < 60 {
                let (len, place) = (1 + dice.roll(9) as u64, dice.roll(3) as u64 * 7);
                match dice.roll(4) {
                    0 => {}
                    1 => blocks.extend((at..at + len).map(|block| (block, None))),
                    _ => blocks.extend((at..at + len).map(|block| (block, Some(place + block)))),
                }
                at += len;
            }
            blocks
        };
        for round in 0..2000 {
            let (old, new) = (layout(), layout());
            let stretches = |blocks: &Blocks| {
                let single = |(at, place): (&u64, &Option<u64>)| Ok(Stretch { start: *at, end: at + 1, place: *place });
                let mut joined: Vec<Stretch> = Vec::new();
                for stretch in blocks.iter().map(single).collect::<io::Result<Vec<_>>>().expect("a list") {
                    let follows = |last: &Stretch| {
                        last.end == stretch.start && last.place.map(|place| place + last.end - last.start) == stretch.place
                    };
                    match joined.last_mut().filter(|last| follows(last)) {
                        Some(last) => last.end = stretch.end,
                        None => joined.push(stretch),
                    }
                }
                joined.into_iter().map(Ok).collect::<Vec<Found>>()
            };
            let changes = differences(stretches(&old).into_iter(), stretches(&new).into_iter(), (80, 80)).expect("lists");
            for block in 0..80 {
                let (one, two) = (old.get(&block), new.get(&block));
                let same = one == two && one != Some(&None);
                let told = changes.next(block).is_none_or(|range| range.start != block);
                assert_eq!(told, same, "round {round}, block {block}: {old:?} {new:?}");
            }
        }
    }
}
