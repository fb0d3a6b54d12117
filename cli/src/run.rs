// SPDX-License-Identifier: Apache-2.0
//! `holdfast run`: any program on any machine, protected.

use crate::exit::Exit;
use crate::repo::RepoArgs;
use anyhow::{Context, bail};
use clap::Args;
use holdfast_agent::{AgentConfig, Command, Prepared, StatePath, Status, prepare};
use holdfast_core::cadence::Paces;
use holdfast_core::disk::Choices;
use holdfast_core::id::OwnerId;
use holdfast_store::capture::Filter;
use holdfast_store::restore::Progress;
use holdfast_store::write::{Takeover, Tuning};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

mod child;

/// Run a program and protect its state while it runs.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A directory that is state; give it as LABEL=DIR to name it
    #[arg(long = "state", value_name = "DIR", required = true)]
    states: Vec<String>,
    #[command(flatten)]
    repo: RepoArgs,
    /// The name of this state's history [default: made of the first directory's path]
    #[arg(long, env = "HOLDFAST_LINEAGE", value_name = "NAME")]
    lineage: Option<String>,
    /// What shares keys
    #[arg(long, env = "HOLDFAST_DOMAIN", value_name = "NAME", default_value = "default")]
    domain: String,
    /// What of the directories is state: globs [default: everything]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// What is not
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Take the lineage over from a holder that didn't close it, or from another machine
    #[arg(long)]
    take_over: bool,
    /// Keep what the disk holds, whatever the repository says
    #[arg(long)]
    adopt_disk: bool,
    /// Finish a restore that was interrupted
    #[arg(long)]
    resume: bool,
    /// Start on an empty directory even if the repository holds a state
    #[arg(long)]
    no_restore: bool,
    /// Restore set-id bits, file capabilities and devices, too
    #[arg(long)]
    special: bool,
    /// Scratch space; losing it costs time only [default: the user's cache directory]
    #[arg(long, env = "HOLDFAST_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Who owns lineages that are begun here; the same on machines that may replace each other [default: this machine]
    #[arg(long, env = "HOLDFAST_OWNER", value_name = "NAME")]
    owner: Option<String>,
    /// Seconds for the last capture after the program has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    end_within: u64,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let config = config(&args)?;
    let repository = args.repo.create().await?;
    let domain = Arc::new(repository.domain(&args.domain).await?);
    let (status, seen) = watch::channel(Status::default());
    let progress = Arc::new(Progress::default());
    let prepared = prepare(config, Arc::clone(repository.transport()), domain, status, progress).await?;
    if let Some(restored) = &prepared.restored {
        tracing::info!(
            checkpoint = restored.sequence,
            entries = restored.entries,
            written_bytes = restored.written_bytes,
            took_ms = restored.took.as_millis(),
            "restored"
        );
        for deviation in &restored.deviations {
            tracing::warn!(path = %holdfast_store::disk::display(&deviation.path), what = %deviation.what, "not restored as it was");
        }
    }
    supervise(args, prepared, seen).await
}

/// The program and its agent, side by side, until the program ends.
async fn supervise(args: RunArgs, prepared: Prepared, _seen: watch::Receiver<Status>) -> anyhow::Result<Exit> {
    let mut child = child::Child::start(&args.command)?;
    let (commands, receiver) = mpsc::channel(4);
    let mut agent = std::pin::pin!(prepared.agent.run(receiver));
    let ended = tokio::select! {
        ended = child.wait() => ended?,
        result = &mut agent => {
            // the application goes on; whoever runs it must know that it is alone
            let error = result.err().map_or_else(|| anyhow::anyhow!("the agent has ended"), anyhow::Error::from);
            tracing::error!(error = %format!("{error:#}"), "THE STATE IS NO LONGER PROTECTED");
            let ended = child.wait().await?;
            return Ok(if ended.code == 0 { Exit::failed(&error) } else { Exit::with(ended.code) });
        }
    };
    commands.send(Command::End(Duration::from_secs(args.end_within))).await.ok();
    agent.await.context("capture the last changes")?;
    Ok(Exit::with(ended.code))
}

fn config(args: &RunArgs) -> anyhow::Result<AgentConfig> {
    let filter = Filter::new(&args.include, &args.exclude)?;
    let mut paths = Vec::new();
    for (index, state) in args.states.iter().enumerate() {
        let (label, path) = labelled(state, index)?;
        let (include, exclude) = (args.include.clone(), args.exclude.clone());
        paths.push(StatePath { label, path, include, exclude, filter: filter.clone() });
    }
    let lineage = match &args.lineage {
        Some(name) if name.trim().is_empty() => bail!("the name of the lineage is empty"),
        Some(name) => name.clone(),
        None => paths[0].path.display().to_string().trim_matches('/').replace('/', "-"),
    };
    paths.sort_by(|one, two| one.label.cmp(&two.label));
    for pair in paths.windows(2) {
        if pair[0].label == pair[1].label {
            bail!("two directories are called {:?}: name them with --state LABEL=DIR", pair[0].label);
        }
    }
    for (i, one) in paths.iter().enumerate() {
        if let Some(other) = paths.iter().enumerate().find(|(j, other)| *j != i && other.path.starts_with(&one.path)) {
            bail!("{} lies inside {}: give the outer one only", other.1.path.display(), one.path.display());
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(AgentConfig {
        lineage,
        paths,
        owner: owner(args.owner.as_deref()),
        holder: holder(),
        takeover: if args.take_over { Takeover::Anybody } else { Takeover::Polite(None) },
        choices: Choices { adopt_disk: args.adopt_disk, resume: args.resume, never_restore: args.no_restore },
        clean_only: true,
        special: args.special,
        paces: Paces::default(),
        partial_after: AgentConfig::PARTIAL_AFTER,
        scratch: scratch(args.scratch.as_deref())?,
        scratch_bytes: AgentConfig::SCRATCH_BYTES,
        watches_max: AgentConfig::WATCHES_MAX,
        tuning: Tuning { encoders: cores.min(4), ..Tuning::default() },
    })
}

/// `LABEL=DIR` or `DIR`; the path made absolute, since the program may change its directory.
fn labelled(state: &str, index: usize) -> anyhow::Result<(String, PathBuf)> {
    let (label, path) = match state.split_once('=') {
        Some((label, path)) if !label.contains('/') => (Some(label.to_owned()), path),
        _ => (None, state),
    };
    if path.is_empty() {
        bail!("{state:?} names no directory");
    }
    let path = std::path::absolute(path).with_context(|| format!("find {path}"))?;
    let forbidden = ["/", "/proc", "/sys", "/dev", "/run"];
    if forbidden.iter().any(|root| path == Path::new(root) || (*root != "/" && path.starts_with(root))) {
        bail!("{} can't be state: name the directory that holds the program's files", path.display());
    }
    let made = || {
        let last = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let plain: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
        if plain.is_empty() { format!("state-{index}") } else { plain }
    };
    let label = label.unwrap_or_else(made);
    if !holdfast_store::tree::kind::is_label(label.as_bytes()) {
        bail!("{label:?} is not a label: use 1 to 63 of a-z, 0-9 and '-'");
    }
    Ok((label, path))
}

fn scratch(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        return Ok(PathBuf::from(cache).join("holdfast"));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(".cache/holdfast")),
        None => bail!("no place for scratch space: give --scratch, or set HOME"),
    }
}

/// The owner with this name, or this machine.
fn owner(name: Option<&str>) -> OwnerId {
    let machine = || std::fs::read_to_string("/etc/machine-id").ok().filter(|id| !id.trim().is_empty());
    let text = match name {
        Some(name) => format!("holdfast owner {name}"),
        None => format!("holdfast machine {}", machine().unwrap_or_else(hostname).trim()),
    };
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    OwnerId::new(id)
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn holder() -> String {
    format!("{} (process {})", hostname(), std::process::id())
}
