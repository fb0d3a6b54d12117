// SPDX-License-Identifier: Apache-2.0
//! `holdfast coordinator`: a server over a repository.

use crate::exit::{Exit, Usage};
use crate::forget::KeepArgs;
use crate::output::{Output, note};
use crate::repo::RepoArgs;
use anyhow::Context;
use clap::Args;
use holdfast_coordinator::{Access, Collector, CollectorConfig, Config, Coordinator};
use holdfast_core::id::OwnerId;
use holdfast_store::collect::Options;
use holdfast_store::repository::Repository;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::Identity;

/// Serve a repository to agents and to this program.
///
/// Whoever presents the token may read everything in the repository.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070", value_parser = address)]
    listen: SocketAddr,
    /// The token that callers must present; made if the file does not exist
    #[arg(long, env = "HOLDFAST_TOKEN_FILE", value_name = "FILE")]
    token_file: PathBuf,
    /// Speak TLS, with this certificate and those that lead to whom callers trust, in PEM
    #[arg(long, env = "HOLDFAST_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, env = "HOLDFAST_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond this machine although nothing is encrypted on the way
    #[arg(long)]
    plaintext_is_fine: bool,
    /// Who owns lineages that are begun here [default: this machine]
    #[arg(long, env = "HOLDFAST_OWNER", value_name = "NAME")]
    owner: Option<String>,
    /// How often lineages are thinned, in minutes; needs --policy or --keep options. Packs are looked for once a day, or as seldom as this
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    collect_every: u64,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    repo: RepoArgs,
}

#[derive(Debug, Serialize)]
struct Listening {
    listening: String,
}

/// An address, or a name that has one.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("write host:port ({error})"))?.next();
    found.ok_or_else(|| "it has no address".to_owned())
}

/// 32 random bytes in hex.
const TOKEN_BYTES: usize = 32;
/// What is shorter can be guessed.
const TOKEN_MIN: usize = 16;

/// Serves until it is told to end.
pub(crate) async fn run(args: CoordinatorArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let identity = identity(&args)?;
    if !args.listen.ip().is_loopback() && !args.plaintext_is_fine && identity.is_none() {
        let why = "others could read the token and the keys on the way";
        let how =
            "give --tls-cert and --tls-key, listen on 127.0.0.1 behind something that encrypts, or give --plaintext-is-fine";
        return Err(Usage(format!("{} is not this machine alone: {why}; {how}", args.listen)).into());
    }
    let repository = args.repo.open().await?;
    let token = token(&args.token_file)?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    let scheme = if identity.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().context("listen")?);
    let mut terminate = signal(SignalKind::terminate()).context("listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to signals")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        note("ending");
    };
    // whoever waits for it to be ready reads this line
    if out.is_json() {
        out.item(&Listening { listening: url }, true)?;
    } else {
        out.line(&format!("listening on {url}"))?;
        out.flush()?;
    }
    let owner = crate::run::owner(args.owner.as_deref());
    let collector = collector(&args, &repository, owner)?;
    let coordinator = Coordinator::new(Config { repository, owner, access: Access::Token(token), domain: None });
    let stopped = CancellationToken::new();
    // whichever ends first takes the other along
    let serving = async {
        let _ends_the_collector = stopped.clone().drop_guard();
        match identity {
            Some(identity) => coordinator.serve_encrypted(listener, identity, stop).await,
            None => coordinator.serve(listener, stop).await,
        }
    };
    let collecting = async {
        if let Some(collector) = &collector {
            collector.run(stopped.clone()).await;
        }
    };
    let (served, ()) = tokio::join!(serving, collecting);
    served?;
    Ok(Exit::ok())
}

/// What it proves by that it is itself, if it does.
fn identity(args: &CoordinatorArgs) -> Result<Option<Identity>, Usage> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let read = |path: &Path| std::fs::read(path).map_err(|error| Usage(format!("can't read {}: {error}", path.display())));
    Ok(Some(Identity::from_pem(read(certificate)?, read(key)?)))
}

/// What keeps the repository small, if it was said what is to remain.
fn collector(args: &CoordinatorArgs, repository: &Repository, owner: OwnerId) -> anyhow::Result<Option<Collector>> {
    let Some(retention) = args.keep.retention()? else { return Ok(None) };
    let every = Duration::from_mins(args.collect_every);
    let config = CollectorConfig {
        repository: repository.clone(),
        owner,
        holder: crate::run::holder(),
        policies: Arc::new(move |_, _| Some(retention.clone())),
        every,
        packs_every: Duration::from_hours(24).max(every),
        options: Options::default(),
    };
    Ok(Some(Collector::new(config)?))
}

/// The token in the file, which only its owner may read; a new one if there is no file.
fn token(path: &Path) -> anyhow::Result<String> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let mut random = [0; TOKEN_BYTES];
            getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
            let token = hex::encode(random);
            let written = file.write_all(format!("{token}\n").as_bytes()).and_then(|()| file.sync_all());
            written.with_context(|| format!("write the token to {}", path.display()))?;
            note(&format!("made a token in {}", path.display()));
            Ok(token)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read_token(path),
        Err(error) => Err(error).with_context(|| format!("make {}", path.display())),
    }
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("read the token from {}", path.display());
    let mode = std::fs::metadata(path).with_context(reading)?.permissions().mode();
    if mode & 0o077 != 0 {
        note(&format!("others on this machine can read {}: chmod 600 it", path.display()));
    }
    let token = std::fs::read_to_string(path).with_context(reading)?.trim().to_owned();
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.len() < TOKEN_MIN || !plain {
        let made = "delete the file to have one made";
        return Err(Usage(format!("{} holds no token: at least {TOKEN_MIN} letters and digits; {made}", path.display())).into());
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let made = token(&path).expect("a token");
        assert_eq!(made.len(), 64);
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(token(&path).expect("the same"), made);
        for nonsense in ["", "short", "has a space in the middle of it"] {
            std::fs::write(&path, nonsense).expect("a file");
            assert!(token(&path).is_err(), "{nonsense:?}");
        }
    }
}
