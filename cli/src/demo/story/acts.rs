// SPDX-License-Identifier: Apache-2.0
//! What happens once everything runs: each act, and what must be true after it.

use super::{DOMAIN, LABEL, LOOK, PATIENCE, Story, lineage};
use crate::demo::earlier;
use crate::demo::report::millis;
use crate::human::{Here, took};
use crate::run::Receipt;
use crate::view::{moment, stamp};
use anyhow::{Context, ensure};
use holdfast_core::time::Timestamp;
use holdfast_factoriser::report::Progress;
use holdfast_factoriser::state::{PROGRESS_FILE, SavedProgress};
use holdfast_proto::v1;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use std::path::Path;
use std::time::{Duration, Instant};

const SNAPSHOT: &str = "mid-search";
/// The worker that dies.
pub(super) const VICTIM: u32 = 0;
/// What a worker has searched and not yet written; and how far two clock readings are from the moments that they stand for.
const SLACK: Duration = Duration::from_millis(400);

/// What was read before the kill.
pub(super) struct Before {
    searched: u64,
    killed: Timestamp,
    at: Instant,
}

fn lineage_ref(worker: u32) -> v1::LineageRef {
    v1::LineageRef { domain: DOMAIN.to_owned(), lineage: lineage(worker) }
}

/// What a worker's files say.
fn saved(directory: &Path) -> anyhow::Result<SavedProgress> {
    let path = directory.join(PROGRESS_FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
}

/// `12,345,678`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Story<'_> {
    /// Waits for a part of the search to be done; remembers when the victim had searched how much.
    pub(super) async fn watch_until(&mut self, part: f64) -> anyhow::Result<Vec<(Timestamp, u64)>> {
        let mut moments = Vec::new();
        loop {
            let progress = self.until("progress", PATIENCE, |story| {
                let (client, port) = (story.client.clone(), story.ports.last().copied());
                async move { client.get::<Progress>(&format!("http://127.0.0.1:{}/progress", port?)).await.ok() }
            });
            let progress = progress.await?;
            self.narrator.progress(progress.progress_done, String::new());
            if let Ok(saved) = saved(&self.state(VICTIM)) {
                moments.push((Here::system().now, saved.searched));
            }
            ensure!(progress.solution.is_none(), "the solution was found before anything could be shown: choose a lower --rate");
            if progress.progress_done as f64 >= progress.progress_all as f64 * part {
                return Ok(moments);
            }
            ensure!(
                self.began.elapsed() < Duration::from_secs(3600),
                "the search is too slow to be shown: choose a higher --rate"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn strike_down(&mut self) -> anyhow::Result<Before> {
        let state = self.state(VICTIM);
        let searched = saved(&state)?.searched;
        let (killed, at) = (Here::system().now, Instant::now());
        self.workers[VICTIM as usize].kill().await?;
        while self.ask_worker(VICTIM).await.is_some() {
            ensure!(at.elapsed() < PATIENCE, "the worker still answers after it was killed");
            tokio::time::sleep(LOOK).await;
        }
        for lost in [state, self.stage.path("scratch").join(lineage(VICTIM))] {
            std::fs::remove_dir_all(&lost).with_context(|| format!("erase {}", lost.display()))?;
        }
        let text = format!(
            "killed {} and its agent (SIGKILL) and erased their disk; it had searched {}",
            lineage(VICTIM),
            grouped(searched)
        );
        self.narrator.step("Disaster", &text);
        Ok(Before { searched, killed, at })
    }

    pub(super) async fn recover(&mut self, before: &Before) -> anyhow::Result<()> {
        self.workers[VICTIM as usize] = self.start_worker(VICTIM)?;
        let report = self.until("the replacement to start", PATIENCE, |story| story.ask_worker(VICTIM)).await?;
        let path = self.receipt(VICTIM);
        let bytes = std::fs::read(&path).context("the replacement started without anything having been restored")?;
        let receipt: Receipt = serde_json::from_slice(&bytes).context("understand the receipt")?;
        ensure!(receipt.root_asked == receipt.root_found, "what was restored is not what was captured: {receipt:?}");
        let captured: jiff::Timestamp = receipt.captured.parse().context("understand the receipt")?;
        let rpo = before.killed.since(captured.into());
        let (restored, lost) = (report.started_from.searched, before.searched.saturating_sub(report.started_from.searched));
        let allowed = (self.args.rate() as f64 * (rpo + SLACK).as_secs_f64()) as u64;
        ensure!(!report.started_from.files.is_empty(), "the replacement found no files");
        ensure!(lost <= allowed, "{lost} candidates are lost, more than the {allowed} of the {rpo:?} since the last capture");
        let searched = before.searched;
        self.until("the replacement to get further than the dead worker", PATIENCE * 4, |story| {
            let report = story.ask_worker(VICTIM);
            async move { report.await.filter(|report| report.searched > searched).map(drop) }
        })
        .await?;
        self.figures.rpo_ms = millis(rpo);
        self.figures.lost_candidates = lost;
        self.figures.restore_ms = receipt.took_ms;
        self.figures.recovery_ms = millis(before.at.elapsed());
        let span = took(Duration::from_millis(receipt.took_ms));
        let text = format!(
            "a replacement got checkpoint {} back in {span}, before it started: proven by its root hash",
            receipt.checkpoint
        );
        self.narrator.step("Recovery", &text);
        let again = format!(
            "it goes on from {}: {} searched again, no more than the {} since the last capture",
            grouped(restored),
            grouped(lost),
            took(rpo)
        );
        self.narrator.detail(&again);
        Ok(())
    }

    pub(super) async fn snapshot(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let connection = &self.stage.connection;
        let mut client = SnapshotServiceClient::new(connection.channel());
        let request = v1::CreateSnapshotRequest {
            name: SNAPSHOT.to_owned(),
            domain: DOMAIN.to_owned(),
            request_id: format!("demo-{}", std::process::id()),
            accept_fuzzy: true,
            ..v1::CreateSnapshotRequest::default()
        };
        let snapshot = client.create_snapshot(connection.request(request)).await.context("take a snapshot")?.into_inner();
        ensure!(snapshot.members.len() == self.args.workers as usize, "the snapshot has {} members", snapshot.members.len());
        ensure!(snapshot.members.iter().all(|member| member.flushed), "an agent did not flush for the snapshot");
        self.figures.snapshot = SNAPSHOT.to_owned();
        self.figures.snapshot_ms = millis(began.elapsed());
        let text = format!(
            "{SNAPSHOT:?}: all {} workers as they were at one time, in {}",
            snapshot.members.len(),
            took(began.elapsed())
        );
        self.narrator.step("Snapshot", &text);
        Ok(())
    }

    /// The checkpoints of a worker, newest first.
    async fn checkpoints(&self, worker: u32) -> anyhow::Result<Vec<v1::Checkpoint>> {
        let connection = &self.stage.connection;
        let mut client = LineageServiceClient::new(connection.channel());
        let (mut checkpoints, mut page_token) = (Vec::new(), String::new());
        loop {
            let lineage = Some(lineage_ref(worker));
            let request = v1::ListCheckpointsRequest { lineage, page_token, ..v1::ListCheckpointsRequest::default() };
            let answer = client.list_checkpoints(connection.request(request)).await.context("list the checkpoints")?.into_inner();
            checkpoints.extend(answer.checkpoints);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(checkpoints);
            }
        }
    }

    pub(super) async fn timeline(&mut self) -> anyhow::Result<Vec<v1::Checkpoint>> {
        let checkpoints = self.checkpoints(VICTIM).await?;
        let here = Here::system();
        let when = |checkpoint: Option<&v1::Checkpoint>| {
            let at = checkpoint.and_then(|checkpoint| checkpoint.last_close.as_ref()).map(moment);
            at.map_or_else(String::new, |at| here.when(at))
        };
        ensure!(checkpoints.len() > 2, "{} has only {} checkpoints", lineage(VICTIM), checkpoints.len());
        let (first, last) = (when(checkpoints.last()), when(checkpoints.first()));
        let text = format!("{} moments of {} to go back to, from {first} to {last}", checkpoints.len(), lineage(VICTIM));
        self.narrator.step("Timeline", &text);
        Ok(checkpoints)
    }

    /// Brings a second before the kill back, beside everything that runs.
    pub(super) async fn travel(
        &mut self,
        checkpoints: &[v1::Checkpoint],
        moments: &[(Timestamp, u64)],
        before: &Before,
    ) -> anyhow::Result<()> {
        let time = |checkpoint: &v1::Checkpoint| checkpoint.last_close.as_ref().map(moment);
        let earlier_ones: Vec<_> = checkpoints.iter().filter(|one| time(one).is_some_and(|at| at < before.killed)).collect();
        let chosen = earlier_ones.get(earlier_ones.len() / 2).context("no checkpoint is older than the kill")?;
        let at = time(chosen).context("a checkpoint has no time")?;
        let into = self.stage.path("earlier");
        let lineage = lineage(VICTIM);
        let earlier = earlier::bring_back(&self.stage.connection, &lineage, stamp(at), LABEL, &into).await?;
        let sequence = earlier.checkpoint.sequence;
        ensure!(sequence == chosen.sequence, "checkpoint {sequence} came instead of {}", chosen.sequence);
        ensure!(earlier.root_found == earlier.checkpoint.root, "the restored state is not the one that was captured");
        let found = saved(&into)?.searched;
        // what its files said then, by our own notes
        let upper = moments.iter().find(|(noted, _)| *noted >= at).map_or(before.searched, |(_, searched)| *searched);
        ensure!(found <= upper, "{found} candidates are said to have been searched by then; there were only {upper}");
        self.figures.earlier_checkpoint = sequence;
        self.figures.earlier_ms = millis(earlier.took);
        let when = Here::system().when(at);
        let text = format!("{lineage} as it was at {when}, in a fresh directory, in {}: same root hash", took(earlier.took));
        self.narrator.step("Time travel", &text);
        Ok(())
    }

    pub(super) async fn solve(&mut self) -> anyhow::Result<()> {
        let patience = Duration::from_secs(120)
            .max(Duration::from_secs(2 * self.args.number / self.args.rate() / u64::from(self.args.workers)));
        let solved = self.until("the solution", patience, |story| {
            let (client, port) = (story.client.clone(), story.ports.last().copied());
            async move {
                let progress: Progress = client.get(&format!("http://127.0.0.1:{}/progress", port?)).await.ok()?;
                progress.solution.map(|solution| (solution, progress.prime == Some(true)))
            }
        });
        let (solution, prime) = solved.await?;
        let number = self.args.number;
        ensure!(prime || solution.solves(number), "{solution} does not solve {number}");
        self.figures.solution = [solution.factor(), solution.cofactor()];
        self.figures.prime = prime;
        let text = if prime {
            format!("{number} is prime")
        } else {
            format!("{number} = {} x {}", solution.factor(), solution.cofactor())
        };
        self.narrator.hide();
        self.narrator.step("Solution", &format!("{text}, although a node died on the way"));
        self.count().await
    }

    /// What is protected, for the figures.
    async fn count(&mut self) -> anyhow::Result<()> {
        let connection = &self.stage.connection;
        let mut client = LineageServiceClient::new(connection.channel());
        for worker in 0..self.args.workers {
            let point = v1::PointRef { lineage: Some(lineage_ref(worker)), point: None, accept_fuzzy: true };
            let request = connection.request(v1::GetCheckpointRequest { point: Some(point) });
            let totals = client.get_checkpoint(request).await.context("look at the newest checkpoints")?.into_inner().totals;
            self.figures.protected_bytes += totals.as_ref().map_or(0, |totals| totals.bytes);
            self.figures.protected_files += totals.as_ref().map_or(0, |totals| totals.files);
            self.figures.checkpoints += self.checkpoints(worker).await?.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_read_in_groups() {
        let pairs = [(0, "0"), (999, "999"), (1000, "1,000"), (804_556_097, "804,556,097")];
        pairs.iter().for_each(|(number, text)| assert_eq!(grouped(*number), *text));
    }
}
