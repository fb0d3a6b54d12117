// SPDX-License-Identifier: Apache-2.0
//! Which repository, and how to open it.

use crate::exit::Usage;
use clap::Args;
use holdfast_agent::clock::SystemClock;
use holdfast_store::StoreError;
use holdfast_store::capture::Clock;
use holdfast_store::name::Name;
use holdfast_store::probe::{Options, probe};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::s3::{self, S3};
use holdfast_store::transport::{Failure, Range, Retries, Retrying, Transport};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long whoever waits at a terminal waits for a store that does not answer at all. One that has answered may be away for longer.
const FIRST_ANSWER: Retries = Retries { deadline: Duration::from_secs(4), pause: Duration::from_millis(50) };

/// What is given of a repository and a coordinator, where only one of them can be meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    Repository,
    Coordinator(&'a str),
    Neither,
}

/// Which of two is meant: the one on the command line rather than the environment's.
pub(crate) fn which<'a>(
    coordinator: Option<&'a str>,
    repo: Option<&str>,
    is_on_line: impl Fn(&str) -> bool,
) -> Result<Which<'a>, Usage> {
    match (coordinator, repo) {
        (None, None) => Ok(Which::Neither),
        (None, Some(_)) => Ok(Which::Repository),
        (Some(url), None) => Ok(Which::Coordinator(url)),
        (Some(url), Some(_)) => match (is_on_line("--coordinator"), is_on_line("--repo")) {
            (true, false) => Ok(Which::Coordinator(url)),
            (false, true) => Ok(Which::Repository),
            _ => Err(Usage("both a repository and a coordinator are given: name one, by --repo or by --coordinator".to_owned())),
        },
    }
}

/// Whether an option is written on this program's command line, before the command that it runs.
pub(crate) fn is_on_line(option: &str) -> bool {
    let is_it = |word: &OsStr| {
        let rest = word.as_encoded_bytes().strip_prefix(option.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    };
    std::env::args_os().take_while(|word| word != "--").any(|word| is_it(&word))
}

/// Where the repository is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Repository")]
pub(crate) struct RepoArgs {
    /// The repository: s3://bucket or s3://bucket/prefix
    #[arg(long, env = "HOLDFAST_REPO", value_name = "URL")]
    pub(crate) repo: Option<String>,
    /// Another S3 endpoint than Amazon's, such as http://localhost:9000
    #[arg(long, env = "HOLDFAST_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// The region [default: the environment's or the profile's, else us-east-1]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// The bucket in the host name, also with --endpoint
    #[arg(long)]
    virtual_host: bool,
    /// A profile of the AWS configuration files
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A file with the repository's passphrase [default: the environment's HOLDFAST_PASSPHRASE]
    #[arg(long, env = "HOLDFAST_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl RepoArgs {
    fn options(&self) -> Result<s3::Options, Usage> {
        let usage = "write s3://bucket or s3://bucket/prefix";
        let Some(repo) = &self.repo else {
            let coordinator = std::env::var_os("HOLDFAST_COORDINATOR").is_some_and(|value| !value.is_empty());
            let why = if coordinator { " (this works on the repository itself, not through HOLDFAST_COORDINATOR)" } else { "" };
            return Err(Usage(format!("no repository: give --repo, or set HOLDFAST_REPO{why}; {usage}")));
        };
        let Some(rest) = repo.strip_prefix("s3://") else { return Err(Usage(format!("{repo:?} is not a repository: {usage}"))) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !(3..=63).contains(&bucket.len()) || !plain(bucket) {
            return Err(Usage(format!("{bucket:?} is not the name of a bucket: {usage}")));
        }
        if !prefix.is_empty() && !prefix.split('/').all(|part| !part.is_empty() && plain(part) && part != "." && part != "..") {
            return Err(Usage(format!("{prefix:?} is not a prefix: use letters, digits, '.', '-', '_' and single slashes")));
        }
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            return Err(Usage(format!("{endpoint:?} is not an endpoint: write http://host:port or https://host:port")));
        }
        Ok(s3::Options {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.virtual_host.then_some(false),
            profile: self.profile.clone(),
            credentials: None,
        })
    }

    /// The store, asked nothing yet.
    pub(crate) async fn transport(&self) -> anyhow::Result<Arc<dyn Transport>> {
        Ok(Arc::new(Retrying::new(Arc::new(S3::new(self.options()?).await), Retries::default())))
    }

    /// The store, for whoever waits at a terminal: that it is there is found out at once.
    async fn transport_that_answers(&self) -> anyhow::Result<Arc<dyn Transport>> {
        let store: Arc<dyn Transport> = Arc::new(S3::new(self.options()?).await);
        let first = Retrying::new(Arc::clone(&store), FIRST_ANSWER);
        first.get(&Name::repository(), Range::All).await.map(drop).or_else(|error| match error.failure {
            Failure::NotFound => Ok(()), // whoever opens it says so
            _ => Err(StoreError::from(error)),
        })?;
        Ok(Arc::new(Retrying::new(store, Retries::default())))
    }

    /// The passphrase, from the file or the environment.
    pub(crate) fn passphrase(&self) -> anyhow::Result<Vec<u8>> {
        let passphrase = match &self.passphrase_file {
            Some(path) => read_passphrase(path)?,
            None => match std::env::var_os("HOLDFAST_PASSPHRASE") {
                Some(passphrase) => trimmed(std::os::unix::ffi::OsStringExt::into_vec(passphrase)),
                None => return Err(Usage("no passphrase: set HOLDFAST_PASSPHRASE, or give --passphrase-file".to_owned()).into()),
            },
        };
        if passphrase.is_empty() {
            return Err(
                Usage("the passphrase is empty: everything would be readable to whoever has the bucket".to_owned()).into()
            );
        }
        Ok(passphrase)
    }

    /// Opens the repository, which must exist.
    pub(crate) async fn open(&self) -> anyhow::Result<Repository> {
        self.options()?;
        let passphrase = self.passphrase()?;
        Ok(Repository::open(self.transport_that_answers().await?, &passphrase).await?)
    }

    /// Opens the repository, creating it if there is none; whether it did. Before it does, the store must prove that it keeps two writers
    /// apart: on one that doesn't, nothing that is stored is safe. `patient`: the network, or the store, may just be starting.
    pub(crate) async fn create(&self, patient: bool) -> anyhow::Result<(Repository, bool)> {
        // what is missing should be told before anything is tried
        self.options()?;
        let passphrase = self.passphrase()?;
        let transport = if patient { self.transport().await? } else { self.transport_that_answers().await? };
        match Repository::open(transport.clone(), &passphrase).await {
            Ok(repository) => return Ok((repository, false)),
            Err(StoreError::NoRepository { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        probe(&transport, Options::default()).await?;
        Ok((Repository::create(transport, &passphrase, Kdf::default(), SystemClock.now()).await?, true))
    }
}

/// A passphrase in a file, without the end of its line.
pub(crate) fn read_passphrase(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = std::fs::read(path);
    Ok(trimmed(read.map_err(|error| Usage(format!("can't read the passphrase from {}: {error}", path.display())))?))
}

fn trimmed(mut passphrase: Vec<u8>) -> Vec<u8> {
    while passphrase.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        passphrase.pop();
    }
    passphrase
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(repo: &str) -> Result<s3::Options, Usage> {
        let args = RepoArgs {
            repo: Some(repo.to_owned()),
            endpoint: None,
            region: None,
            virtual_host: false,
            profile: None,
            passphrase_file: None,
        };
        args.options()
    }

    #[test]
    fn one_place_and_the_command_line_before_the_environment() {
        let (coordinator, repo) = (Some("http://a"), Some("s3://abc"));
        let found = |coordinator, repo, line: &'static [&str]| which(coordinator, repo, |option| line.contains(&option));
        assert_eq!(found(None, repo, &[]).expect("one"), Which::Repository);
        assert_eq!(found(coordinator, None, &[]).expect("one"), Which::Coordinator("http://a"));
        assert_eq!(found(None, None, &[]).expect("none"), Which::Neither);
        assert_eq!(found(coordinator, repo, &["--repo"]).expect("one"), Which::Repository);
        assert_eq!(found(coordinator, repo, &["--coordinator"]).expect("one"), Which::Coordinator("http://a"));
        for line in [&[][..], &["--repo", "--coordinator"]] {
            assert!(found(coordinator, repo, line).expect_err("both").0.contains("name one"));
        }
    }

    #[test]
    fn places_are_understood_or_refused_in_words() {
        let found = options("s3://bucket/some/prefix/").expect("a place");
        assert_eq!((found.bucket.as_str(), found.prefix.as_str()), ("bucket", "some/prefix"));
        assert_eq!(options("s3://bucket").expect("a place").prefix, "");
        for nonsense in
            ["bucket", "http://bucket", "s3://", "s3://a", "s3://b%cket", "s3://bucket//x", "s3://bucket/../x", "file:///x"]
        {
            let error = options(nonsense).expect_err("nonsense").to_string();
            assert!(error.contains("is not"), "{error}");
        }
    }
}
