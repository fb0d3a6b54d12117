// SPDX-License-Identifier: Apache-2.0
//! Whether packs exist and are long enough for what lies in them.

use super::report::Kind;
use crate::error::Result;
use crate::name;
use crate::pack::PACK_MAX;
use crate::reader::Reader;
use crate::seal::{SEAL_OVERHEAD, padded_len};
use crate::tree::{FramePlace, Object};
use holdfast_core::id::{LineageId, Nonce};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What ends every pack after its frames.
const TAIL_LEN: u64 = 8 + SEAL_OVERHEAD as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It exists, with so many bytes.
    Size(u64),
    /// It does not exist under its own name: where its frames went, only a reader can tell.
    Absent,
}

/// What is known of packs so far. An entry for each pack of the lineages that were met: a terabyte has about 65,000.
#[derive(Debug)]
pub(super) struct Packs {
    reader: Arc<Reader>,
    listed: HashSet<LineageId>,
    verdicts: HashMap<Nonce, Verdict>,
    used: HashSet<Nonce>,
}

impl Packs {
    pub(super) fn new(reader: &Arc<Reader>) -> Self {
        Self { reader: Arc::clone(reader), listed: HashSet::new(), verdicts: HashMap::new(), used: HashSet::new() }
    }

    /// How many were referred to.
    pub(super) fn used(&self) -> u64 {
        self.used.len() as u64
    }

    /// Whether a frame can lie where it should: what speaks against it.
    pub(super) fn holds(&mut self, place: &FramePlace) -> Result<Option<(Kind, String, String)>> {
        let Object::Pack { lineage, nonce, .. } = place.object else { return self.readable(place) };
        self.used.insert(nonce);
        let size = match self.verdict(lineage, nonce, place)? {
            Verdict::Size(size) => size,
            Verdict::Absent => return self.readable(place),
        };
        let end = place.offset.saturating_add(u64::from(place.sealed_len));
        let what = if end.saturating_add(TAIL_LEN) > size {
            format!("it has {size} bytes, too few for what lies in it: it is truncated")
        } else if size > PACK_MAX as u64 || padded_len(size) != size {
            format!("it has {size} bytes, which no pack has")
        } else {
            return Ok(None);
        };
        Ok(Some((Kind::Damaged, place.object.name(self.reader.domain().keys.id).to_string(), what)))
    }

    /// Reads the frame: of a record at hand that is cheap, and of a pack that was compacted nothing less would tell.
    fn readable(&self, place: &FramePlace) -> Result<Option<(Kind, String, String)>> {
        match self.reader.frame(place, false) {
            Ok(_) => Ok(None),
            Err(error) => super::report::verdict(&error).map_or(Err(error), |found| Ok(Some(found))),
        }
    }

    fn verdict(&mut self, lineage: LineageId, nonce: Nonce, place: &FramePlace) -> Result<Verdict> {
        if self.listed.insert(lineage) {
            self.list(lineage)?;
        }
        if let Some(verdict) = self.verdicts.get(&nonce) {
            return Ok(*verdict);
        }
        // listings may lag behind: only the object itself can be missed
        let name = place.object.name(self.reader.domain().keys.id);
        let size = self.reader.runtime().block_on(self.reader.transport().size(&name))?;
        let verdict = size.map_or(Verdict::Absent, Verdict::Size);
        self.verdicts.insert(nonce, verdict);
        Ok(verdict)
    }

    /// The sizes of all packs of a lineage, a thousand to a request.
    fn list(&mut self, lineage: LineageId) -> Result<()> {
        let prefix = format!("{}packs/", name::below(self.reader.domain().keys.id, lineage));
        let mut after: Option<String> = None;
        loop {
            let page = self.reader.runtime().block_on(self.reader.transport().list(&prefix, after.as_deref(), false, 1000))?;
            for (name, size) in &page.objects {
                let nonce = name.as_str().rsplit('/').next().and_then(|digits| digits.parse::<Nonce>().ok());
                self.verdicts.extend(nonce.map(|nonce| (nonce, Verdict::Size(*size))));
            }
            match page.next {
                // a page that leads nowhere would never end
                Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
                _ => return Ok(()),
            }
        }
    }
}
