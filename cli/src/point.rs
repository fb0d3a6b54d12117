// SPDX-License-Identifier: Apache-2.0
//! Which lineage, which point of its history, which path.

use crate::connection::{Connection, remote};
use crate::exit::{NotFound, Usage};
use crate::human::{Here, clean};
use crate::view::stamp;
use clap::Args;
use holdfast_proto::v1;
use holdfast_proto::v1::point_ref::Point;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A point of a lineage's history.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Point in time [default: the newest]")]
pub(crate) struct PointArgs {
    /// As it was then: '10 minutes ago', 'yesterday 14:03'
    #[arg(long, value_name = "TIME", group = "point")]
    at: Option<String>,
    /// As it is in this snapshot: its name, id, or the id's beginning
    #[arg(long, value_name = "SNAPSHOT", group = "point")]
    snapshot: Option<String>,
    /// This checkpoint, by its number
    #[arg(long, value_name = "N", group = "point", value_parser = number)]
    checkpoint: Option<u64>,
    /// Also checkpoints during whose capture something changed
    #[arg(long)]
    pub(crate) accept_fuzzy: bool,
}

/// `12` or `#12`.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let parsed = digits.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| "checkpoints have numbers from 1, as `holdfast timeline` lists them".to_owned())
}

impl PointArgs {
    /// This point of a lineage.
    pub(crate) fn of(&self, lineage: v1::LineageRef, here: &Here) -> Result<v1::PointRef, Usage> {
        let point = match (&self.at, &self.snapshot, self.checkpoint) {
            (Some(at), ..) => Point::At(stamp(here.parse(at).map_err(|error| Usage(error.to_string()))?)),
            (_, Some(snapshot), _) => Point::Snapshot(snapshot.clone()),
            (.., Some(checkpoint)) => Point::Checkpoint(checkpoint),
            _ => Point::Newest(true),
        };
        Ok(v1::PointRef { lineage: Some(lineage), point: Some(point), accept_fuzzy: self.accept_fuzzy })
    }
}

/// A point in a word: `now`, `newest`, `#12`, a time, or else a snapshot's name.
pub(crate) fn in_a_word(word: &str, lineage: v1::LineageRef, accept_fuzzy: bool, here: &Here) -> Result<v1::PointRef, Usage> {
    let point = match word {
        "" => return Err(Usage("a point in time is empty: write a time, '#12', a snapshot or 'newest'".to_owned())),
        "now" | "newest" => Point::Newest(true),
        word if word.starts_with('#') => Point::Checkpoint(number(word).map_err(Usage)?),
        word => match here.parse(word) {
            Ok(at) => Point::At(stamp(at)),
            Err(_) if word.bytes().all(|byte| byte.is_ascii_digit()) && word.len() < 8 => {
                return Err(Usage(format!("{word:?} is neither a time nor a snapshot; for the checkpoint write '#{word}'")));
            }
            Err(_) => Point::Snapshot(word.to_owned()),
        },
    };
    Ok(v1::PointRef { lineage: Some(lineage), point: Some(point), accept_fuzzy })
}

/// `LINEAGE[:PATH]`; an empty lineage is the only one.
pub(crate) fn place(argument: &OsStr) -> Result<(Option<String>, Vec<u8>), Usage> {
    let bytes = argument.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (lineage, rest) = colon.map_or((bytes, &[][..]), |colon| (&bytes[..colon], &bytes[colon + 1..]));
    let lineage = std::str::from_utf8(lineage).map_err(|_| Usage("the name of a lineage is text".to_owned()))?;
    Ok(((!lineage.is_empty()).then(|| lineage.to_owned()), path(rest)?))
}

/// A path that begins with a label, in its plain form.
pub(crate) fn path(bytes: &[u8]) -> Result<Vec<u8>, Usage> {
    let parts: Vec<_> = bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Usage("a path leads from a label down: it can't contain '..'".to_owned()));
    }
    if bytes.contains(&0) {
        return Err(Usage("a path can't contain a zero byte".to_owned()));
    }
    Ok(parts.join(&b'/'))
}

/// The lineage with this name, or the only one.
pub(crate) async fn lineage(connection: &Connection, name: Option<&str>) -> anyhow::Result<v1::LineageRef> {
    if let Some(name) = name {
        let domain = connection.domain().unwrap_or("default").to_owned();
        return Ok(v1::LineageRef { domain, lineage: name.to_owned() });
    }
    let domain = connection.domain().unwrap_or_default().to_owned();
    let request = v1::ListLineagesRequest { domain, page_size: 10, page_token: String::new() };
    let found = connection.lineages().list_lineages(request).await.map_err(remote)?.into_inner();
    let mut references = found.lineages.into_iter().filter_map(|lineage| lineage.r#ref);
    match (references.next(), references.next()) {
        (Some(only), None) if found.next_page_token.is_empty() => Ok(only),
        (None, _) => Err(NotFound("no lineage is there yet: `holdfast run` begins one".to_owned()).into()),
        (Some(one), two) => {
            let names: Vec<_> =
                [Some(one), two].into_iter().flatten().chain(references).take(5).map(|one| clean(&one.lineage)).collect();
            let names = names.join(", ");
            Err(Usage(format!("which lineage? There are several: {names}; `holdfast lineages` lists them")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::time::Timestamp;
    use jiff::tz::TimeZone;

    #[test]
    fn places_are_taken_apart() {
        let check = |text: &str, lineage: Option<&str>, path: &str| {
            let found = place(OsStr::new(text)).expect("a place");
            assert_eq!((found.0.as_deref(), found.1.as_slice()), (lineage, path.as_bytes()), "{text}");
        };
        check("web", Some("web"), "");
        check("web:", Some("web"), "");
        check("web:/data//journal/./1/", Some("web"), "data/journal/1");
        check(":data/a:b", None, "data/a:b");
        check("", None, "");
        assert!(place(OsStr::new("web:data/../x")).is_err());
    }

    #[test]
    fn points_in_a_word() {
        let here = Here { now: Timestamp::from_nanos(1_700_000_000_000_000_000), zone: TimeZone::UTC };
        let point = |word: &str| in_a_word(word, v1::LineageRef::default(), false, &here).map(|point| point.point);
        assert_eq!(point("newest").ok().flatten(), Some(Point::Newest(true)));
        assert_eq!(point("#12").ok().flatten(), Some(Point::Checkpoint(12)));
        assert!(matches!(point("10 minutes ago").ok().flatten(), Some(Point::At(_))));
        assert_eq!(point("before-upgrade").ok().flatten(), Some(Point::Snapshot("before-upgrade".to_owned())));
        for nonsense in ["", "#", "#0", "#x", "12"] {
            assert!(point(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
