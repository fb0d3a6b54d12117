// SPDX-License-Identifier: Apache-2.0
//! Where the state goes: straight into a repository, or through a coordinator that holds the credentials.

use crate::exit::Usage;
use crate::repo::RepoArgs;
use anyhow::Context;
use clap::Args;
use holdfast_agent::{AgentConfig, Connection, Session, Who};
use holdfast_store::seal::Domain;
use holdfast_store::transport::{Retries, Retrying, Transport};
use holdfast_store::write::Takeover;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the state goes.
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Stream through a coordinator: no credentials and no passphrase are needed here
    #[arg(long, env = "HOLDFAST_COORDINATOR", value_name = "URL", help_heading = "Coordinator")]
    coordinator: Option<String>,
    /// A file with the coordinator's token [default: the environment's HOLDFAST_TOKEN]
    #[arg(long, env = "HOLDFAST_TOKEN_FILE", value_name = "FILE", help_heading = "Coordinator")]
    token_file: Option<PathBuf>,
}

/// What the agent writes to.
pub(super) struct Place {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) domain: Arc<Domain>,
    /// Open, if it is behind a coordinator.
    pub(super) session: Option<Session>,
}

#[derive(Debug, PartialEq, Eq)]
enum Which<'a> {
    Repository,
    Coordinator(&'a str),
}

impl PlaceArgs {
    /// What was written on the command line counts more than the environment.
    fn which(&self, env: impl Fn(&str) -> Option<String>) -> Result<Which<'_>, Usage> {
        let from_env = |value: &str, name: &str| env(name).as_deref() == Some(value);
        match (&self.coordinator, &self.repo.repo) {
            (None, None) => {
                let usage = "give --repo s3://bucket/prefix (or set HOLDFAST_REPO), or --coordinator http://host:port";
                Err(Usage(format!("where is the state to go? {usage}")))
            }
            (None, Some(_)) => Ok(Which::Repository),
            (Some(url), None) => Ok(Which::Coordinator(url)),
            (Some(url), Some(repo)) => match (from_env(url, "HOLDFAST_COORDINATOR"), from_env(repo, "HOLDFAST_REPO")) {
                (false, true) => Ok(Which::Coordinator(url)),
                (true, false) => Ok(Which::Repository),
                _ => Err(Usage(
                    "both a repository and a coordinator are given: name one, by --repo or by --coordinator".to_owned(),
                )),
            },
        }
    }

    /// Opens it. Behind a coordinator, some of the agent's configuration is the coordinator's to say.
    pub(super) async fn open(&self, domain: &str, config: &mut AgentConfig) -> anyhow::Result<Place> {
        match self.which(|name| std::env::var(name).ok())? {
            Which::Coordinator(url) => self.attach(url, domain, config).await,
            Which::Repository => {
                let (repository, _) = self.repo.create().await?;
                let domain = Arc::new(repository.domain(domain).await?);
                Ok(Place { transport: Arc::clone(repository.transport()), domain, session: None })
            }
        }
    }

    async fn attach(&self, url: &str, domain: &str, config: &mut AgentConfig) -> anyhow::Result<Place> {
        let connection = Connection::new(url, self.token()?.as_deref()).map_err(|error| Usage(error.to_string()))?;
        let who = Who::of(domain, &config.lineage, &config.holder);
        let session = Session::open(connection, who).await?;
        config.owner = session.owner();
        if config.takeover == Takeover::Polite(None) {
            // the coordinator has one session for a lineage: it has seen the last holder go, or sent it away
            config.takeover = Takeover::SameOwner;
        }
        let transport = Arc::new(Retrying::new(Arc::new(session.transport()), Retries::default()));
        Ok(Place { transport, domain: Arc::clone(&session.granted().domain), session: Some(session) })
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let token = match &self.token_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("read the token from {}", path.display()))?,
            None => match std::env::var("HOLDFAST_TOKEN") {
                Ok(token) => token,
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(token.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        place: PlaceArgs,
    }

    #[test]
    fn one_place_and_the_command_line_before_the_environment() {
        let which = |line: &[&str], env: &'static [(&str, &str)]| {
            let command = Line::command().mut_args(|arg| arg.env(None)); // whoever runs this may have a repository of their own
            let found = command.get_matches_from([&["x"], line].concat());
            let place = Line::from_arg_matches(&found).expect("a line that parses").place;
            let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            place.which(env).map(|which| format!("{which:?}")).map_err(|usage| usage.0)
        };
        assert_eq!(which(&["--repo", "s3://abc"], &[]), Ok("Repository".to_owned()));
        assert_eq!(which(&["--coordinator", "http://a"], &[]), Ok("Coordinator(\"http://a\")".to_owned()));
        let both = ["--repo", "s3://abc", "--coordinator", "http://a"];
        assert!(which(&both, &[]).expect_err("both").contains("name one"));
        assert_eq!(which(&both, &[("HOLDFAST_REPO", "s3://abc")]), Ok("Coordinator(\"http://a\")".to_owned()));
        assert_eq!(which(&both, &[("HOLDFAST_COORDINATOR", "http://a")]), Ok("Repository".to_owned()));
        assert!(which(&[], &[]).expect_err("neither").contains("--coordinator"));
    }
}
