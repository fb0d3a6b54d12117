// SPDX-License-Identifier: Apache-2.0
//! Which repository, and how to open it.

use crate::exit::Usage;
use anyhow::Context;
use clap::Args;
use holdfast_agent::clock::SystemClock;
use holdfast_store::StoreError;
use holdfast_store::capture::Clock;
use holdfast_store::probe::{Options, probe};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::s3::{self, S3};
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
            return Err(Usage(format!("no repository: give --repo, or set HOLDFAST_REPO; {usage}")));
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
        let transport = self.transport().await?;
        Ok(Repository::open(transport, &self.passphrase()?).await?)
    }

    /// Opens the repository, creating it if there is none; whether it did. Before it does, the store must prove that it keeps two writers
    /// apart: on one that doesn't, nothing that is stored is safe.
    pub(crate) async fn create(&self) -> anyhow::Result<(Repository, bool)> {
        // a passphrase that is missing should be told before anything is tried
        let passphrase = self.passphrase()?;
        let transport = self.transport().await?;
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
    Ok(trimmed(std::fs::read(path).with_context(|| format!("read the passphrase from {}", path.display()))?))
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
