// SPDX-License-Identifier: Apache-2.0
//! `holdfast forget` and `holdfast repo collect`: what is old goes, and what nothing reaches.

use crate::exit::{Exit, FAILED, NotFound, Usage};
use crate::output::{Output, note};
use crate::repo::RepoArgs;
use crate::run::{holder, owner};
use crate::table::Table;
use anyhow::Context;
use clap::Args;
use holdfast_agent::clock::SystemClock;
use holdfast_api::check_yaml;
use holdfast_api::quantity::parse_age;
use holdfast_core::collection::Worth;
use holdfast_core::id::HolderKey;
use holdfast_core::policy::{Retention, Tier, Window};
use holdfast_store::capture::Clock;
use holdfast_store::collect::{Ended, OfLineage, Options, Report, Request, collect};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod view;

/// Delete checkpoints that are no longer wanted, and what only they needed.
///
/// Say what is to remain, by --policy or by --keep options. Ages count from a lineage's newest checkpoint. That one always stays, as does
/// whatever is pinned: snapshots, restores that are under way, what a fork began with.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Lineages
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    lineages: Vec<String>,
    /// All lineages of the domain
    #[arg(long)]
    all: bool,
    /// What shares keys
    #[arg(long, env = "HOLDFAST_DOMAIN", value_name = "NAME", default_value = "default")]
    domain: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    who: WhoArgs,
}

/// What is to remain.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What remains")]
pub(crate) struct KeepArgs {
    /// As the StatePolicy in this YAML file says
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keep_within", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"])]
    policy: Option<PathBuf>,
    /// Every checkpoint younger than this: 90m, 24h, 30d or 1y; 0 for none
    #[arg(long, value_name = "AGE")]
    keep_within: Option<String>,
    /// The last of each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// The last of each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// The last of each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// The last of each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// The last of each of so many years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
}

/// Whose lineages, in which repository.
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// Whose lineages may be touched [default: this machine's]
    #[arg(long, env = "HOLDFAST_OWNER", value_name = "NAME")]
    owner: Option<String>,
    #[command(flatten)]
    repo: RepoArgs,
}

/// Delete what nothing reaches any more, and rewrite packs that are mostly dead. No checkpoint is forgotten.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Leave packs as they are that are mostly dead
    #[arg(long)]
    no_rewrite: bool,
    #[command(flatten)]
    who: WhoArgs,
}

impl KeepArgs {
    /// What they say; `None`: nothing.
    pub(crate) fn retention(&self) -> anyhow::Result<Option<Retention>> {
        if let Some(file) = &self.policy {
            return of_policy(file).map(Some);
        }
        let named = [
            (Window::Hour, self.keep_hourly),
            (Window::Day, self.keep_daily),
            (Window::Week, self.keep_weekly),
            (Window::Month, self.keep_monthly),
            (Window::Year, self.keep_yearly),
        ];
        let tiers: Vec<Tier> = named
            .into_iter()
            .filter_map(|(window, count)| Some(Tier { window, count: count.filter(|count| *count > 0)? }))
            .collect();
        let keep_all = match self.keep_within.as_deref() {
            None if tiers.is_empty() => return Ok(None),
            None | Some("0") => Duration::ZERO,
            Some(age) => {
                let wrong = || Usage(format!("--keep-within {age:?} is not an age: write 90m, 24h, 30d or 1y, or 0 for none"));
                parse_age(age).ok_or_else(wrong)?
            }
        };
        Ok(Some(Retention { keep_all, tiers }))
    }
}

/// What the one policy in a file says.
fn of_policy(file: &Path) -> anyhow::Result<Retention> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let report = check_yaml(&text, &file.display().to_string());
    if let Some(finding) = report.findings().find(|finding| finding.severity == "error") {
        let place = format!("{}:{}:{}", report.file, finding.line, finding.column);
        return Err(Usage(format!("{place}: {}: {}", finding.field, finding.sentence)).into());
    }
    let mut policies = report.documents.iter().filter_map(|document| document.policy.as_ref());
    match (policies.next(), policies.next()) {
        (Some(policy), None) => Ok(policy.retention.clone()),
        (None, _) => Err(NotFound(format!("{} holds no StatePolicy", file.display())).into()),
        (Some(_), Some(_)) => Err(Usage(format!("{} holds several StatePolicies: give a file with one", file.display())).into()),
    }
}

/// Forgets.
pub(crate) async fn run(args: ForgetArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let usage = "say what is to remain: --policy FILE, or --keep-within AGE, --keep-hourly N, --keep-daily N …";
    let retention = args.keep.retention()?.ok_or_else(|| Usage(usage.to_owned()))?;
    let wanted: BTreeSet<&str> = args.lineages.iter().map(String::as_str).collect();
    let policy = |domain: &str, lineage: &str| {
        let chosen = domain == args.domain && (args.all || wanted.contains(lineage));
        chosen.then(|| retention.clone())
    };
    let report = work(&args.who, args.dry_run, Some(Worth::default()), &policy).await?;
    let known: BTreeSet<&str> =
        report.lineages.iter().filter(|one| one.domain_name == args.domain).map(|one| &*one.name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(**name)) {
        return Err(NotFound(format!("there is no lineage {unknown:?} in domain {:?}", args.domain)).into());
    }
    let chosen = |one: &OfLineage| one.domain_name == args.domain && (args.all || wanted.contains(&*one.name));
    show(&report, chosen, out)
}

/// Collects.
pub(crate) async fn run_collect(args: CollectArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let rewrite = (!args.no_rewrite).then(Worth::default);
    let report = work(&args.who, args.dry_run, rewrite, &|_, _| None).await?;
    show(&report, |_| true, out)
}

/// Rounds at most: each works off up to 20,000 names.
const ROUNDS: u32 = 10_000;

/// Collects until there is no more to do of the kind; what the rounds did is added up.
async fn work(
    who: &WhoArgs,
    dry_run: bool,
    rewrite: Option<Worth>,
    retention: &(dyn Fn(&str, &str) -> Option<Retention> + Sync),
) -> anyhow::Result<Report> {
    let repository = who.repo.open().await?;
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    // whoever types a command may take what is young, too: the margin is for what happens by itself
    let options = Options { margin: Duration::ZERO, rewrite, dry_run, ..Options::default() };
    let request = Request {
        repository: &repository,
        owner: owner(who.owner.as_deref()),
        holder: holder(),
        holder_key: HolderKey::new(key),
        now: SystemClock.now(),
        retention,
        options,
    };
    let mut all: Option<Report> = None;
    for _ in 0..ROUNDS {
        let report = Box::pin(collect(&request)).await?;
        let more = report.more && report.ended == Ended::Done;
        all = Some(match all {
            None => report,
            Some(before) => added(before, report),
        });
        if !more {
            break;
        }
    }
    all.context("nothing was asked for")
}

fn added(before: Report, mut after: Report) -> Report {
    for one in &mut after.lineages {
        let Some(earlier) = before.lineages.iter().find(|known| (known.domain, known.lineage) == (one.domain, one.lineage))
        else {
            continue;
        };
        for (reason, tally) in &earlier.gone {
            *one.gone.entry(*reason).or_default() += *tally;
        }
        one.rewritten += earlier.rewritten;
    }
    after
}

fn show(report: &Report, chosen: impl Fn(&OfLineage) -> bool, out: &mut Output) -> anyhow::Result<Exit> {
    let lineages: Vec<&OfLineage> = report.lineages.iter().filter(|one| chosen(one)).collect();
    if out.is_json() {
        out.document(&view::document(report, &lineages))?;
    } else {
        let mut table = Table::new(&["LINEAGE", "DOMAIN", "KEPT", "RECORDS GONE", "OBJECTS GONE", "FREED"]).right(&[2, 3, 4, 5]);
        for one in &lineages {
            table.row(view::row(one));
        }
        out.table(&table)?;
    }
    out.flush()?;
    for one in &lineages {
        if let Some(why) = &one.left_alone {
            note(&format!("{} was left alone: {why}", one.name));
        }
    }
    for problem in &report.problems {
        note(problem);
    }
    match report.ended {
        Ended::Superseded => note("another collector is at work: nothing was deleted here"),
        Ended::Planned => note("nothing was deleted: this is what would be"),
        Ended::Done => {}
    }
    let well = report.problems.is_empty() && report.ended != Ended::Superseded;
    Ok(if well { Exit::ok() } else { Exit::with(FAILED) })
}
