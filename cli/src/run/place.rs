// SPDX-License-Identifier: Apache-2.0
//! Where the state goes: straight into a repository, or through a coordinator that holds the credentials.

use crate::connection::{read_token, secure};
use crate::exit::Usage;
use crate::repo::{RepoArgs, Which, is_on_line, which};
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
    /// Whom to trust with https://, in PEM
    #[arg(long, env = "HOLDFAST_CA_FILE", value_name = "FILE", help_heading = "Coordinator")]
    ca_file: Option<PathBuf>,
}

/// What the agent writes to.
pub(super) struct Place {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) domain: Arc<Domain>,
    /// Open, if it is behind a coordinator.
    pub(super) session: Option<Session>,
}

impl PlaceArgs {
    /// Opens it. Behind a coordinator, some of the agent's configuration is the coordinator's to say.
    pub(super) async fn open(&self, domain: &str, config: &mut AgentConfig) -> anyhow::Result<Place> {
        match which(self.coordinator.as_deref(), self.repo.repo.as_deref(), is_on_line)? {
            Which::Neither => {
                let usage = "give --repo s3://bucket/prefix (or set HOLDFAST_REPO), or --coordinator http://host:port";
                Err(Usage(format!("where is the state to go? {usage}")).into())
            }
            Which::Coordinator(url) => self.attach(url, domain, config).await,
            Which::Repository => {
                let (repository, _) = self.repo.create(true).await?;
                let domain = Arc::new(repository.domain(domain).await?);
                Ok(Place { transport: Arc::clone(repository.transport()), domain, session: None })
            }
        }
    }

    async fn attach(&self, url: &str, domain: &str, config: &mut AgentConfig) -> anyhow::Result<Place> {
        let token = self.token()?;
        let connection = if url.starts_with("https://") {
            secure(url, self.ca_file.as_deref(), token.as_deref())?
        } else {
            Connection::new(url, token.as_deref()).map_err(|error| Usage(error.to_string()))?
        };
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
            Some(path) => read_token(path)?,
            None => match std::env::var("HOLDFAST_TOKEN") {
                Ok(token) => token,
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(token.trim().to_owned()))
    }
}
