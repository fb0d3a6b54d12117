// SPDX-License-Identifier: Apache-2.0
//! What became of a lineage since the last look, as Events tell it. Plain functions.

use super::judge::{Judgement, Seen};
use crate::cluster::conditions::Truth;
use holdfast_core::time::Monotonic;
use holdfast_proto::v1::Phase;

/// What was told of a lineage, and what must be remembered to tell on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Story {
    said: Option<(Truth, &'static str)>,
    holder: Option<String>,
    restoring: Option<Monotonic>,
}

/// Something to be told of a lineage and its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) note: String,
}

impl Story {
    /// What is to be told now. `from` says which checkpoint a restore went on from.
    pub(crate) fn go_on(
        &mut self,
        now: Monotonic,
        judgement: &Judgement,
        seen: Option<&Seen>,
        from: Option<&str>,
    ) -> Vec<Chapter> {
        let mut chapters = Vec::new();
        if let Some(seen) = seen {
            self.restored(now, seen, from, &mut chapters);
            self.taken_over(seen, &mut chapters);
        }
        let saying = &judgement.saying;
        let before = self.said.replace((saying.is, saying.reason));
        // of what one finds when one begins to look, only what is wrong is news
        let is_new = before.is_none_or(|before| before != (saying.is, saying.reason));
        let was_bad = before.is_some_and(|(is, _)| is == Truth::False);
        match saying.is {
            Truth::False if is_new && is_trouble(saying.reason) => {
                chapters.push(Chapter { is_warning: true, reason: "StateUnprotected", note: saying.message.clone() });
            }
            Truth::True if was_bad && saying.reason == "Streaming" => {
                chapters.push(Chapter { is_warning: false, reason: "StateProtected", note: saying.message.clone() });
            }
            _ => {}
        }
        chapters
    }

    fn restored(&mut self, now: Monotonic, seen: &Seen, from: Option<&str>, chapters: &mut Vec<Chapter>) {
        match (seen.phase, self.restoring) {
            (Phase::Restoring, None) => self.restoring = Some(now),
            (Phase::Seeding | Phase::Streaming | Phase::Ending | Phase::Ended, Some(since)) => {
                self.restoring = None;
                let seconds = now.since(since).as_secs_f64();
                let from = from.map_or_else(String::new, |from| format!(" from {from}"));
                let note = format!("the state was restored{from} in about {seconds:.0} s, and the application starts");
                chapters.push(Chapter { is_warning: false, reason: "Restored", note });
            }
            _ => {}
        }
    }

    fn taken_over(&mut self, seen: &Seen, chapters: &mut Vec<Chapter>) {
        let before = self.holder.replace(seen.holder.clone());
        if let Some(before) = before.filter(|before| *before != seen.holder) {
            let note = format!(
                "{} writes this state from now on; {before} is fenced: nothing it writes becomes the history any more",
                seen.holder
            );
            chapters.push(Chapter { is_warning: false, reason: "TakenOver", note });
        }
    }
}

/// What doesn't belong to an ordinary start or end.
fn is_trouble(reason: &str) -> bool {
    matches!(reason, "Lagging" | "Trouble" | "Unreadable" | "Damaged" | "AgentSilent" | "Unsealed" | "RepositoryNotReady")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::conditions::Saying;
    use std::time::Duration;

    fn said(is: Truth, reason: &'static str) -> Judgement {
        Judgement { saying: Saying::new("Protected", is, reason, "because"), lag: None }
    }

    fn seen(phase: Phase, holder: &str) -> Seen {
        Seen {
            holder: holder.to_owned(),
            phase,
            lag: Duration::ZERO,
            peak: Duration::ZERO,
            trouble: String::new(),
            dirty: false,
            unreadable: String::new(),
            newest: None,
        }
    }

    #[test]
    fn an_ordinary_start_is_told_in_one_sentence() {
        let mut story = Story::default();
        let mut told = Vec::new();
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        for (second, phase, reason) in
            [(0, Phase::Waiting, "Waiting"), (1, Phase::Restoring, "Restoring"), (4, Phase::Restoring, "Restoring")]
        {
            told.extend(story.go_on(at(second), &said(Truth::False, reason), Some(&seen(phase, "web-0")), None));
        }
        assert_eq!(told, []);
        let streaming = said(Truth::True, "Streaming");
        told.extend(story.go_on(at(7), &streaming, Some(&seen(Phase::Streaming, "web-0")), Some("checkpoint 7 (12 bytes)")));
        let notes: Vec<&str> = told.iter().map(|chapter| chapter.reason).collect();
        assert_eq!(notes, ["Restored", "StateProtected"]);
        assert_eq!(told[0].note, "the state was restored from checkpoint 7 (12 bytes) in about 6 s, and the application starts");
        assert_eq!(story.go_on(at(8), &streaming, Some(&seen(Phase::Streaming, "web-0")), None), []);
    }

    #[test]
    fn trouble_is_told_when_it_begins_and_when_it_ends() {
        let mut story = Story::default();
        let now = Monotonic::default();
        let mut go_on = |is, reason| {
            story.go_on(now, &said(is, reason), None, None).into_iter().map(|chapter| chapter.reason).collect::<Vec<_>>()
        };
        assert_eq!(go_on(Truth::True, "Streaming"), [] as [&str; 0]);
        assert_eq!(go_on(Truth::False, "Lagging"), ["StateUnprotected"]);
        assert_eq!(go_on(Truth::False, "Lagging"), [] as [&str; 0]);
        assert_eq!(go_on(Truth::False, "AgentSilent"), ["StateUnprotected"]);
        assert_eq!(go_on(Truth::Unknown, "Reconnecting"), [] as [&str; 0]);
        assert_eq!(go_on(Truth::False, "Lagging"), ["StateUnprotected"]);
        assert_eq!(go_on(Truth::True, "Streaming"), ["StateProtected"]);
        for reason in ["Trouble", "Unreadable", "Damaged", "Unsealed", "RepositoryNotReady"] {
            assert_eq!(go_on(Truth::False, reason), ["StateUnprotected"], "{reason}");
        }
    }

    #[test]
    fn another_holder_is_told_of() {
        let mut story = Story::default();
        let mut go_on = |holder| {
            story.go_on(Monotonic::default(), &said(Truth::True, "Streaming"), Some(&seen(Phase::Streaming, holder)), None)
        };
        assert_eq!(go_on("web-0 on a"), []);
        let told = go_on("web-0 on b");
        assert!(told.len() == 1 && told[0].reason == "TakenOver" && told[0].note.contains("web-0 on a is fenced"), "{told:?}");
    }
}
