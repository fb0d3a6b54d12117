// SPDX-License-Identifier: Apache-2.0
//! Whom the commands talk to: a running coordinator, or one in this process over a repository. Both speak gRPC.

use crate::exit::Usage;
use crate::repo::{RepoArgs, Which, is_on_line, which};
use anyhow::Context;
use clap::Args;
use holdfast_agent::connection::Tokens;
use holdfast_agent::grant::Granted;
use holdfast_agent::remote::RemoteTransport;
use holdfast_coordinator::{Access, Config, Coordinator, InProcess};
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::file_service_client::FileServiceClient;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::restore_service_client::RestoreServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_store::repository::Repository;
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Where the state is: in a repository, or behind a coordinator.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) repo: RepoArgs,
    /// Ask a running coordinator instead of the repository
    #[arg(long, env = "HOLDFAST_COORDINATOR", value_name = "URL", help_heading = "Coordinator")]
    coordinator: Option<String>,
    /// A file with the coordinator's token [default: the environment's HOLDFAST_TOKEN]
    #[arg(long, env = "HOLDFAST_TOKEN_FILE", value_name = "FILE", help_heading = "Coordinator")]
    token_file: Option<PathBuf>,
    /// Whom to trust with https://, in PEM
    #[arg(long, env = "HOLDFAST_CA_FILE", value_name = "FILE", help_heading = "Coordinator")]
    ca_file: Option<PathBuf>,
    /// What shares keys [default: default; to find lineages: all]
    #[arg(long, env = "HOLDFAST_DOMAIN", value_name = "NAME", global = false)]
    domain: Option<String>,
}

/// The answers of a page may be long.
const ANSWER_MAX: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Speaker = InterceptedService<Channel, Bearer>;

/// A connection to a coordinator.
#[derive(Debug)]
pub(crate) struct Connection {
    speaker: Speaker,
    channel: Channel,
    bearer: Bearer,
    repository: Option<Repository>,
    domain: Option<String>,
    /// The coordinator in this process; it ends with the connection.
    in_process: Option<(Coordinator, InProcess)>,
}

/// What a coordinator answered instead of what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Remote {
    pub(crate) code: Code,
    /// What programs can tell.
    pub(crate) reason: Option<Reason>,
    message: String,
}

/// The answer as an error of this program.
pub(crate) fn remote(status: Status) -> Remote {
    let Problem { code, message, reason, .. } = Problem::of(&status);
    // an answer from afar has no source: here is what became of the connection
    let is_broken = std::error::Error::source(&status).is_some();
    if matches!(code, Code::Unknown | Code::Internal) && is_broken {
        let message =
            "the coordinator broke the connection off: it has ended, or speaks TLS (https://), or something else".to_owned();
        return Remote { code: Code::Unavailable, reason, message };
    }
    let message = match reason {
        _ if message.is_empty() => format!("the coordinator answered: {}", code.description()),
        Some(Reason::Unauthenticated) => {
            format!("the coordinator asks for its token ({message}): check --token-file or HOLDFAST_TOKEN")
        }
        None if code == Code::Unavailable => format!("the coordinator can't be reached: {message}"),
        _ => message,
    };
    Remote { code, reason, message }
}

/// Sends the token along.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

enum Place {
    Repository,
    Coordinator(String),
}

impl ConnectArgs {
    /// Where to go. What was written on the command line counts more than the environment.
    fn place(&self) -> Result<Place, Usage> {
        let nowhere = "where is the state? Give --repo s3://bucket/prefix (or set HOLDFAST_REPO), or --coordinator http://host:port (or https://)";
        match which(self.coordinator.as_deref(), self.repo.repo.as_deref(), is_on_line)? {
            Which::Repository => Ok(Place::Repository),
            Which::Coordinator(url) => Ok(Place::Coordinator(url.to_owned())),
            Which::Neither => Err(Usage(nowhere.to_owned())),
        }
    }

    fn token(&self) -> anyhow::Result<Option<MetadataValue<Ascii>>> {
        let token = match &self.token_file {
            Some(path) => read_token(path)?,
            None => match std::env::var("HOLDFAST_TOKEN") {
                Ok(token) => token,
                Err(_) => return Ok(None),
            },
        };
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Usage("the token has characters that no token has: check --token-file or HOLDFAST_TOKEN".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        match self.place()? {
            Place::Coordinator(url) => self.connect_to(&url).await,
            Place::Repository => {
                let repository = self.repo.open().await?;
                let owner = crate::run::owner(None);
                let coordinator =
                    Coordinator::new(Config { repository: repository.clone(), owner, access: Access::Open, domain: None });
                let (channel, in_process) = coordinator.in_process().await.context("start a coordinator in this process")?;
                Ok(self.connection(channel, None, Some(repository), Some((coordinator, in_process))))
            }
        }
    }

    async fn connect_to(&self, url: &str) -> anyhow::Result<Connection> {
        let wrong = || Usage(format!("{url:?} is not a coordinator: write http://host:port or https://host:port"));
        if url.starts_with("https://") {
            let way = secure(url, self.ca_file.as_deref(), None)?;
            return Ok(self.connection(way.channel(), self.token()?, None, None));
        }
        if !url.starts_with("http://") {
            return Err(wrong().into());
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?.connect_timeout(CONNECT_TIMEOUT);
        let unreachable = |error: tonic::transport::Error| {
            let cause = std::iter::successors(std::error::Error::source(&error), |error| error.source()).last();
            let message =
                format!("can't reach the coordinator at {url}: {}", cause.map_or_else(|| error.to_string(), ToString::to_string));
            Remote { code: Code::Unavailable, reason: None, message }
        };
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(self.connection(channel, self.token()?, None, None))
    }

    fn connection(
        &self,
        channel: Channel,
        token: Option<MetadataValue<Ascii>>,
        repository: Option<Repository>,
        in_process: Option<(Coordinator, InProcess)>,
    ) -> Connection {
        let bearer = Bearer(token);
        let speaker = InterceptedService::new(channel.clone(), bearer.clone());
        Connection { speaker, channel, bearer, repository, domain: self.domain.clone(), in_process }
    }
}

/// The way over TLS to a coordinator.
pub(crate) fn secure(url: &str, authorities: Option<&Path>, token: Option<&str>) -> Result<holdfast_agent::Connection, Usage> {
    let whom = "whom may it trust? Give --ca-file (or set HOLDFAST_CA_FILE), such as /etc/ssl/certs/ca-certificates.crt";
    let authorities = authorities.ok_or_else(|| Usage(whom.to_owned()))?;
    std::fs::metadata(authorities).map_err(|error| Usage(format!("can't read {}: {error}", authorities.display())))?;
    let token = token.map_or(Ok(Tokens::none()), Tokens::fixed).map_err(|error| Usage(error.to_string()))?;
    holdfast_agent::Connection::secure(url, authorities, token).map_err(|error| Usage(error.to_string()))
}

/// A token in a file.
pub(crate) fn read_token(path: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(path).map_err(|error| Usage(format!("can't read the token from {}: {error}", path.display())))
}

impl Connection {
    /// Ends a coordinator of this process in good order: what it holds for a restore is let go of. One that is dropped may leave it pinned.
    pub(crate) async fn end(self) {
        if let Some((coordinator, _)) = &self.in_process {
            coordinator.end().await;
        }
    }

    /// What protected states there are, and their points in time.
    pub(crate) fn lineages(&self) -> LineageServiceClient<Speaker> {
        LineageServiceClient::new(self.speaker.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Their files.
    pub(crate) fn files(&self) -> FileServiceClient<Speaker> {
        FileServiceClient::new(self.speaker.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Named sets of checkpoints.
    pub(crate) fn snapshots(&self) -> SnapshotServiceClient<Speaker> {
        SnapshotServiceClient::new(self.speaker.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Restores.
    pub(crate) fn restores(&self) -> RestoreServiceClient<Speaker> {
        RestoreServiceClient::new(self.speaker.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// The repository, if it is read from here.
    pub(crate) const fn repository(&self) -> Option<&Repository> {
        self.repository.as_ref()
    }

    /// What a grant lets read: straight from the store if the repository is at hand, else through the coordinator's relay.
    pub(crate) fn transport(&self, grant: &Granted) -> Arc<dyn Transport> {
        match &self.repository {
            Some(repository) => Arc::clone(repository.transport()),
            None => {
                let relay =
                    RemoteTransport::new(self.channel.clone(), grant.token.clone()).authorized(self.bearer.0.clone().into());
                Arc::new(Retrying::new(Arc::new(relay), Retries::default()))
            }
        }
    }

    /// Whether it is the repository itself, which no running agent hears of.
    pub(crate) const fn is_in_process(&self) -> bool {
        self.in_process.is_some()
    }

    /// The domain that was named.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }
}
