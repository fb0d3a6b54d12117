// SPDX-License-Identifier: Apache-2.0
//! From options to what the agent is told.

use super::RunArgs;
use crate::exit::Usage;
use anyhow::Context;
use holdfast_agent::config::Budget;
use holdfast_agent::quiesce::{Means, Quiescing, Whom};
use holdfast_agent::{AgentConfig, StatePath};
use holdfast_core::cadence::Paces;
use holdfast_core::disk::Choices;
use holdfast_core::id::OwnerId;
use holdfast_store::capture::Filter;
use holdfast_store::write::{Takeover, Tuning};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything but what the place of the state decides.
pub(super) fn config(args: &RunArgs) -> anyhow::Result<AgentConfig> {
    let filter = Filter::new(&args.include, &args.exclude)?;
    let mut paths = Vec::new();
    for (index, state) in args.states.iter().enumerate() {
        let (label, path) = labelled(state, index)?;
        let (include, exclude) = (args.include.clone(), args.exclude.clone());
        paths.push(StatePath { label, path, include, exclude, filter: filter.clone(), read_only: false });
    }
    let lineage = match &args.lineage {
        Some(name) if name.trim().is_empty() => return Err(Usage("the name of the lineage is empty".to_owned()).into()),
        Some(name) => name.clone(),
        None => paths[0].path.display().to_string().trim_matches('/').replace('/', "-"),
    };
    paths.sort_by(|one, two| one.label.cmp(&two.label));
    for pair in paths.windows(2) {
        if pair[0].label == pair[1].label {
            return Err(Usage(format!("two directories are called {:?}: name them with --state LABEL=DIR", pair[0].label)).into());
        }
    }
    for (i, one) in paths.iter().enumerate() {
        if let Some(other) = paths.iter().enumerate().find(|(j, other)| *j != i && other.path.starts_with(&one.path)) {
            return Err(
                Usage(format!("{} lies inside {}: give the outer one only", other.1.path.display(), one.path.display())).into()
            );
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(AgentConfig {
        lineage,
        paths,
        owner: owner(args.owner.as_deref()),
        holder: holder(),
        takeover: if args.take_over { Takeover::Anybody } else { Takeover::Polite(None) },
        choices: Choices {
            adopt_disk: args.adopt_disk,
            resume: args.resume,
            never_restore: args.no_restore,
            ..Choices::default()
        },
        clean_only: !args.accept_fuzzy,
        special: args.special,
        paces: args.every.map_or(Ok(Paces::default()), paces)?,
        partial_after: AgentConfig::PARTIAL_AFTER,
        scratch: scratch(args.scratch.as_deref())?,
        scratch_bytes: AgentConfig::SCRATCH_BYTES,
        watches_max: AgentConfig::WATCHES_MAX,
        reflink: !args.no_reflink,
        tuning: Tuning { encoders: cores.min(4), ..Tuning::default() },
        holder_key: None,
        budget: Budget::default(),
    })
}

/// How the program is brought to rest for a snapshot.
pub(super) fn quiescing(args: &RunArgs) -> anyhow::Result<Quiescing> {
    if !args.freeze {
        return Ok(Quiescing::nothing());
    }
    let seconds = args.pause_budget;
    if !(0.01..=60.0).contains(&seconds) {
        return Err(Usage(format!("--pause-budget {seconds} is not a pause: write seconds from 0.01 to 60")).into());
    }
    let own = i32::try_from(std::process::id()).context("find this process")?;
    Ok(Quiescing {
        means: Means::Freeze(Whom::StartedBy(own)),
        budget: Duration::from_secs_f64(seconds),
        every_checkpoint: args.every_checkpoint,
        keeper: (PathBuf::from("/proc/self/exe"), vec!["keeper".into()]),
    })
}

/// No change waits longer than this; the other paces follow.
fn paces(seconds: f64) -> Result<Paces, Usage> {
    if !(0.1..=86_400.0).contains(&seconds) {
        return Err(Usage(format!("--every {seconds} is not a pace: write seconds from 0.1 to 86400")));
    }
    let usual = Paces::default();
    let limit = Duration::from_secs_f64(seconds);
    Ok(Paces { settle: usual.settle.min(limit / 4), quiet: usual.quiet.min(limit / 2), limit, scan: usual.scan.max(limit) })
}

/// `LABEL=DIR` or `DIR`; the path made absolute, since the program may change its directory.
fn labelled(state: &str, index: usize) -> anyhow::Result<(String, PathBuf)> {
    let (label, path) = match state.split_once('=') {
        Some((label, path)) if !label.contains('/') => (Some(label.to_owned()), path),
        _ => (None, state),
    };
    if path.is_empty() {
        return Err(Usage(format!("{state:?} names no directory")).into());
    }
    let path = std::path::absolute(path).with_context(|| format!("find {path}"))?;
    let forbidden = ["/", "/proc", "/sys", "/dev", "/run"];
    if forbidden.iter().any(|root| path == Path::new(root) || (*root != "/" && path.starts_with(root))) {
        return Err(Usage(format!("{} can't be state: name the directory that holds the program's files", path.display())).into());
    }
    let made = || {
        let last = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let plain: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
        if plain.is_empty() { format!("state-{index}") } else { plain }
    };
    let label = label.unwrap_or_else(made);
    if !holdfast_store::tree::kind::is_label(label.as_bytes()) {
        return Err(Usage(format!("{label:?} is not a label: use 1 to 63 of a-z, 0-9 and '-'")).into());
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
        None => Err(Usage("no place for scratch space: give --scratch, or set HOME".to_owned()).into()),
    }
}

/// The owner with this name, or this machine.
pub(crate) fn owner(name: Option<&str>) -> OwnerId {
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

/// This process, for people.
pub(crate) fn holder() -> String {
    format!("{} (process {})", hostname(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_follow_from_how_long_a_change_may_wait() {
        assert_eq!(paces(10.0).expect("usual"), Paces::default());
        let fast = paces(1.0).expect("fast");
        assert_eq!(
            (fast.limit, fast.quiet, fast.settle),
            (Duration::from_secs(1), Duration::from_millis(500), Duration::from_millis(200))
        );
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(paces(nonsense).is_err(), "{nonsense}");
        }
    }
}
