// SPDX-License-Identifier: Apache-2.0
//! `holdfast repo`: the repository itself.

use crate::exit::{Exit, Usage};
use crate::forget::{CollectArgs, run_collect};
use crate::human::{Here, count};
use crate::output::{Output, note};
use crate::repo::{RepoArgs, read_passphrase};
use crate::table::Table;
use clap::{Args, Subcommand};
use holdfast_core::time::Timestamp;
use holdfast_store::lineages::domains;
use holdfast_store::probe::{Options, probe};
use holdfast_store::repository::Kdf;
use serde::Serialize;
use std::path::PathBuf;

/// Create repositories, look at them, change their passphrases, collect what nothing reaches.
#[derive(Debug, Args)]
pub(crate) struct RepositoryArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try the store out, and create a repository
    Init(OnlyRepo),
    /// Prove that the store keeps two writers apart; exit code 4 if it does not
    Probe(OnlyRepo),
    /// Say what it is: its id, format, passphrases, domains
    Info(OnlyRepo),
    /// Add and revoke passphrases
    Passphrase(PassphraseArgs),
    /// Delete what nothing reaches any more, and rewrite packs that are mostly dead; no checkpoint is forgotten
    Collect(CollectArgs),
}

#[derive(Debug, Args)]
struct OnlyRepo {
    #[command(flatten)]
    repo: RepoArgs,
}

#[derive(Debug, Args)]
struct PassphraseArgs {
    #[command(subcommand)]
    command: PassphraseCommand,
}

#[derive(Debug, Subcommand)]
enum PassphraseCommand {
    /// Add one: from then on both open the repository
    Add {
        /// A file with the new passphrase [default: the environment's HOLDFAST_NEW_PASSPHRASE]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        repo: RepoArgs,
    },
    /// Revoke one, by its slot; `holdfast repo info` lists them
    Revoke {
        /// The slot's number
        slot: u64,
        #[command(flatten)]
        repo: RepoArgs,
    },
}

#[derive(Debug, Serialize)]
struct Created {
    repository: String,
    location: String,
    created: bool,
}

#[derive(Debug, Serialize)]
struct Probed {
    location: String,
    fences: bool,
    races: u32,
    open_answers: u32,
}

#[derive(Debug, Serialize)]
struct Info {
    repository: String,
    location: String,
    format: u32,
    created: String,
    slots: Vec<Slot>,
    domains: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Slot {
    slot: u64,
    revoked: bool,
}

#[derive(Debug, Serialize)]
struct SlotChanged {
    slot: u64,
    change: &'static str,
}

/// Does it.
pub(crate) async fn run(args: RepositoryArgs, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Init(OnlyRepo { repo }) => init(&repo, out).await,
        Command::Probe(OnlyRepo { repo }) => try_out(&repo, out).await,
        Command::Info(OnlyRepo { repo }) => info(&repo, out).await,
        Command::Collect(args) => return Box::pin(run_collect(args, out)).await,
        Command::Passphrase(PassphraseArgs { command }) => match command {
            PassphraseCommand::Add { new_passphrase_file, repo } => add(&repo, new_passphrase_file, out).await,
            PassphraseCommand::Revoke { slot, repo } => revoke(&repo, slot, out).await,
        },
    }?;
    out.flush()?;
    Ok(Exit::ok())
}

async fn init(repo: &RepoArgs, out: &mut Output) -> anyhow::Result<()> {
    let (repository, created) = repo.create(false).await?;
    let document = Created { repository: repository.id().to_string(), location: repository.transport().location(), created };
    if out.is_json() {
        return Ok(out.document(&document)?);
    }
    if created {
        out.line(&format!("created repository {} at {}", document.repository, document.location))?;
        note("keep the passphrase: without it nobody can read what is stored, ever");
    } else {
        out.line(&format!("there is repository {} at {} already", document.repository, document.location))?;
    }
    Ok(())
}

async fn try_out(repo: &RepoArgs, out: &mut Output) -> anyhow::Result<()> {
    let transport = repo.transport().await?;
    let found = probe(&transport, Options::default()).await?;
    let document = Probed { location: transport.location(), fences: true, races: found.races, open_answers: found.open_answers };
    if out.is_json() {
        return Ok(out.document(&document)?);
    }
    let races = count(found.races.into(), "race");
    Ok(out.line(&format!("{} can hold a repository: {races} for one name, each with one winner", document.location))?)
}

async fn info(repo: &RepoArgs, out: &mut Output) -> anyhow::Result<()> {
    let repository = repo.open().await?;
    let about = repository.about().await?;
    let mut names = Vec::new();
    for id in domains(&repository).await? {
        if let Some(domain) = repository.domain_by_id(id).await? {
            names.push(domain.keys.name);
        }
    }
    names.sort();
    let created = Timestamp::from_nanos(about.created.saturating_mul(1_000_000_000));
    let slots: Vec<_> =
        repository.slots().await?.into_iter().map(|slot| Slot { slot: slot.number, revoked: slot.revoked }).collect();
    let document = Info {
        repository: repository.id().to_string(),
        location: repository.transport().location(),
        format: about.format,
        created: created.to_string(),
        slots,
        domains: names,
    };
    if out.is_json() {
        return Ok(out.document(&document)?);
    }
    let mut facts = Table::new(&[]);
    facts.fact("repository", &document.repository);
    facts.fact("location", &document.location);
    facts.fact("format", document.format.to_string());
    facts.fact("created", Here::system().when(created));
    for slot in &document.slots {
        let state = if slot.revoked { "revoked" } else { "opens the repository" };
        facts.fact("passphrase", format!("slot {}, {state}", slot.slot));
    }
    for domain in &document.domains {
        facts.fact("domain", domain);
    }
    Ok(out.table(&facts)?)
}

async fn add(repo: &RepoArgs, file: Option<PathBuf>, out: &mut Output) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStringExt;
    let new = match (&file, std::env::var_os("HOLDFAST_NEW_PASSPHRASE")) {
        (Some(path), _) => read_passphrase(path)?,
        (None, Some(new)) => new.into_vec(),
        (None, None) => {
            let how = "set HOLDFAST_NEW_PASSPHRASE, or give --new-passphrase-file";
            return Err(Usage(format!("no new passphrase: {how}")).into());
        }
    };
    if new.is_empty() {
        return Err(Usage("the new passphrase is empty".to_owned()).into());
    }
    let repository = repo.open().await?;
    if new == repo.passphrase()? {
        return Err(Usage("the new passphrase is the one that opens the repository already".to_owned()).into());
    }
    let slot = repository.add_passphrase(&new, Kdf::default()).await?;
    changed(SlotChanged { slot, change: "added" }, out)
}

async fn revoke(repo: &RepoArgs, slot: u64, out: &mut Output) -> anyhow::Result<()> {
    let repository = repo.open().await?;
    let slots = repository.slots().await?;
    let open: Vec<_> = slots.iter().filter(|slot| !slot.revoked).map(|slot| slot.number).collect();
    if !open.contains(&slot) {
        let known: Vec<_> = open.iter().map(ToString::to_string).collect();
        return Err(
            Usage(format!("no passphrase is in slot {slot}: those in slots {} open the repository", known.join(", "))).into()
        );
    }
    if open.len() == 1 {
        return Err(
            Usage("it is the only passphrase: add another one before, or nobody can open the repository".to_owned()).into()
        );
    }
    repository.revoke_slot(slot).await?;
    changed(SlotChanged { slot, change: "revoked" }, out)
}

fn changed(change: SlotChanged, out: &mut Output) -> anyhow::Result<()> {
    if out.is_json() {
        return Ok(out.document(&change)?);
    }
    Ok(out.line(&format!("{} the passphrase in slot {}", change.change, change.slot))?)
}
