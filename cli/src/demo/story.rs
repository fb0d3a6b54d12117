// SPDX-License-Identifier: Apache-2.0
//! The story: what happens in which order, and what must be true after each step.

use super::DemoArgs;
use super::crew::{Process, free_port};
use super::meter::{Meter, lineages};
use super::narrator::Narrator;
use super::report::{Figures, millis};
use super::stage::Stage;
use crate::human::took;
use crate::output::Output;
use anyhow::{Context, bail, ensure};
use holdfast_factoriser::client::Client;
use holdfast_factoriser::report::{Progress, Report};
use holdfast_proto::v1;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

mod acts;
use acts::VICTIM;

/// The domain of the demo's lineages.
pub(super) const DOMAIN: &str = "demo";
const LABEL: &str = "state";
/// How long anything may take that should take a second or two.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// The story, and who plays in it.
pub(super) struct Story<'a> {
    args: &'a DemoArgs,
    stage: &'a Stage,
    narrator: Narrator,
    client: Client,
    meter: Option<Meter>,
    workers: Vec<Process>,
    master: Option<Process>,
    ports: Vec<u16>,
    began: Instant,
    figures: Figures,
}

pub(super) fn lineage(worker: u32) -> String {
    format!("worker-{worker}")
}

impl<'a> Story<'a> {
    pub(super) fn new(args: &'a DemoArgs, stage: &'a Stage, narrator: Narrator) -> Self {
        let figures = Figures { number: args.number, ..Figures::default() };
        Self {
            args,
            stage,
            narrator,
            client: Client::new(),
            meter: None,
            workers: Vec::new(),
            master: None,
            ports: Vec::new(),
            began: Instant::now(),
            figures,
        }
    }

    /// From the first step to the solution. Not cancel-safe for the story; whoever stops it must still [`end`](Self::end) it.
    pub(super) async fn tell(&mut self) -> anyhow::Result<()> {
        self.begin().await?;
        self.protect().await?;
        let moments = self.watch_until(0.35).await?;
        let before = self.strike_down().await?;
        self.recover(&before).await?;
        self.snapshot().await?;
        let checkpoints = self.timeline().await?;
        self.travel(&checkpoints, &moments, &before).await?;
        self.solve().await
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        let stage = self.stage;
        self.narrator.say("A distributed program, its state streamed to S3, a lost node: on this machine, in about a minute.");
        self.narrator.step("Ground", "an S3 server and a coordinator in this process; nothing else is needed");
        self.ports = (0..=self.args.workers).map(|_| free_port()).collect::<Result<_, _>>()?;
        for worker in 0..self.args.workers {
            let process = self.start_worker(worker)?;
            self.workers.push(process);
        }
        let mut arguments = vec!["factoriser-master".into(), "--number".into(), self.args.number.to_string().into()];
        arguments.extend(["--listen".into(), format!("127.0.0.1:{}", self.ports[self.args.workers as usize]).into()]);
        arguments.extend(["--state".into(), stage.path("state/master").into()]);
        for port in &self.ports[..self.args.workers as usize] {
            arguments.extend(["--worker".into(), format!("http://127.0.0.1:{port}").into()]);
        }
        self.master = Some(Process::start("master", arguments, &stage.path("logs"), stage.verbose)?);
        let (number, workers) = (self.args.number, self.args.workers);
        let text = format!("a master and {workers} workers search a factor of {number}; each worker runs under `holdfast run`");
        self.narrator.step("Program", &text);
        Ok(())
    }

    fn state(&self, worker: u32) -> PathBuf {
        self.stage.path("state").join(lineage(worker))
    }

    fn receipt(&self, worker: u32) -> PathBuf {
        self.stage.path("receipts").join(format!("{}.json", lineage(worker)))
    }

    fn start_worker(&self, worker: u32) -> anyhow::Result<Process> {
        let (stage, state, name) = (self.stage, self.state(worker), lineage(worker));
        let mut arguments = Vec::new();
        let mut option = |name: &str, value: std::ffi::OsString| arguments.extend([name.into(), value]);
        option("--coordinator", stage.url.clone().into());
        option("--token-file", stage.path("token").into());
        option("--domain", DOMAIN.into());
        option("--lineage", name.clone().into());
        let mut labelled = std::ffi::OsString::from(format!("{LABEL}="));
        labelled.push(&state);
        option("--state", labelled);
        option("--scratch", stage.path("scratch").join(&name).into());
        option("--receipt", self.receipt(worker).into());
        option("--every", "1".into());
        option("--end-within", "5".into());
        option("--die-with", std::process::id().to_string().into());
        // its journal survives a kill at any moment, so it needs no quiet ones
        arguments.push("--accept-fuzzy".into());
        arguments.push("--".into());
        arguments.push(std::env::current_exe().context("find this program")?.into());
        arguments.push("factoriser-worker".into());
        let mut option = |name: &str, value: std::ffi::OsString| arguments.extend([name.into(), value]);
        option("--number", self.args.number.to_string().into());
        option("--index", worker.to_string().into());
        option("--workers", self.args.workers.to_string().into());
        option("--state", state.into());
        option("--listen", format!("127.0.0.1:{}", self.ports[worker as usize]).into());
        option("--rate", self.args.rate().to_string().into());
        arguments.insert(0, "run".into());
        Process::start(&name, arguments, &stage.path("logs"), stage.verbose)
    }

    /// Looks again and again until it is so; nobody may end meanwhile.
    async fn until<T, F: Future<Output = Option<T>>>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Self) -> F,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(self).await {
                return Ok(found);
            }
            if let Some(ended) = self.workers.iter_mut().chain(&mut self.master).find_map(Process::ended) {
                bail!("{ended} while waiting for {what}");
            }
            ensure!(Instant::now() < deadline, "{what}: not within {patience:?}");
            if let Ok(progress) = self.progress().await {
                let lag = self.meter.as_ref().map_or(Duration::ZERO, |meter| meter.read().1);
                self.narrator.progress(progress.progress_done, format!("most lag {}", took(lag)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        let port = self.ports.last().context("there is no master yet")?;
        Ok(self.client.get(&format!("http://127.0.0.1:{port}/progress")).await?)
    }

    fn ask_worker(&self, worker: u32) -> impl Future<Output = Option<Report>> + use<> {
        let (client, port) = (self.client.clone(), self.ports[worker as usize]);
        async move { client.get(&format!("http://127.0.0.1:{port}/progress")).await.ok() }
    }

    async fn protect(&mut self) -> anyhow::Result<()> {
        let (began, wanted) = (Instant::now(), self.args.workers as usize);
        self.meter = Some(Meter::start(self.stage.connection.clone()));
        let durable = |lineage: &v1::Lineage| {
            let streaming = lineage.live.as_ref().is_some_and(|live| live.phase() == v1::Phase::Streaming);
            streaming && lineage.newest.is_some()
        };
        self.until("a checkpoint of every worker", PATIENCE, |story| {
            let connection = story.stage.connection.clone();
            async move {
                let lineages = lineages(&connection).await.ok()?;
                (lineages.iter().filter(|lineage| durable(lineage)).count() == wanted).then_some(())
            }
        })
        .await?;
        let text = format!(
            "every worker's state is in S3, encrypted, {} after the start; what changes follows each second",
            took(began.elapsed())
        );
        self.narrator.step("Protection", &text);
        let progress = self.progress().await?;
        self.narrator.show(progress.progress_all);
        Ok(())
    }

    /// Asks everybody to end: the agents make the last of it durable.
    pub(super) async fn end(&mut self) {
        self.narrator.hide();
        if let Some(meter) = self.meter.take() {
            let (median, most) = meter.read();
            (self.figures.lag_median_ms, self.figures.lag_max_ms) = (millis(median), millis(most));
        }
        let stops = self.workers.iter_mut().chain(&mut self.master).map(|process| process.stop(Duration::from_secs(10)));
        futures::future::join_all(stops).await;
    }

    pub(super) fn report(&mut self, stage: &Stage, out: &mut Output) -> anyhow::Result<()> {
        (self.figures.stored_objects, self.figures.stored_bytes, self.figures.s3_requests) = stage.stored();
        self.figures.seconds = self.began.elapsed().as_secs_f64();
        if out.is_json() {
            out.document(&self.figures)?;
        } else {
            self.figures.tell(&mut self.narrator);
        }
        Ok(())
    }

    /// What the processes said last, for whoever wants to know why.
    pub(super) fn show_logs(&mut self) {
        let lines: Vec<_> = self.workers.iter().chain(&self.master).flat_map(Process::last_words).collect();
        lines.iter().for_each(|line| self.narrator.say(line));
    }

    /// What to try while everything runs.
    pub(super) fn invite(&mut self, stage: &Stage) {
        let (url, token) = (&stage.url, stage.path("token"));
        let lines = [
            "Everything goes on running, until Ctrl-C. In another terminal:".to_owned(),
            format!("    export HOLDFAST_COORDINATOR={url} HOLDFAST_TOKEN_FILE={}", token.display()),
            format!("    export HOLDFAST_DOMAIN={DOMAIN}"),
            "    holdfast lineages".to_owned(),
            format!("    holdfast timeline {}", lineage(VICTIM)),
            format!("    holdfast restore --lineage {} /tmp/earlier --at '20 seconds ago' --accept-fuzzy", lineage(VICTIM)),
            format!("    curl http://127.0.0.1:{}/progress", self.ports.last().copied().unwrap_or(0)),
        ];
        self.narrator.say("");
        lines.iter().for_each(|line| self.narrator.say(line));
    }
}
