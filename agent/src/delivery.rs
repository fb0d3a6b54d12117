// SPDX-License-Identifier: Apache-2.0
//! A pod that only writes states into a volume, and ends: it is told everything by its environment, may read by what its coordinator grants to its
//! token, and says what came of it where the kubelet picks it up.
//!
//! ```text
//! settings   the environment, resolved
//! volume     whether the volume is empty, or holds what an earlier pod has begun
//! work       fetch, write, sync, prove: everything that blocks
//! ```
//!
//! Whatever can pass by itself ends the process with a failure: the kubelet starts it again, and it goes on from what lies on the volume.

use crate::connection::{Connection, ConnectionError, Tokens};
use crate::grant::{GrantError, GrantToken, Granted};
use crate::pod::SettingsError;
use crate::session::SessionError;
use crate::{AgentError, RemoteTransport, thread};
use holdfast_core::delivery::{Delivered, Parcel, Reason, Refused, Report};
use holdfast_proto::v1::GrantDeliveryRequest;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_store::StoreError;
use holdfast_store::capture::CaptureError;
use holdfast_store::log::Log;
use holdfast_store::reader::Reader;
use holdfast_store::restore::RestoreError;
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

mod settings;
mod volume;
mod work;

pub use settings::Settings;

/// The coordinator has so long for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// It writes down which pod it has made a moment after that pod may run: so long, a refusal is asked about again.
const GRANTED_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// A grant is asked for anew this often: a coordinator that took over knows nothing of the last one.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// A store that is away is waited for so long before the process ends.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest text in a last word.
const TEXT_MAX: usize = 1024;

/// Why nothing was delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// It never will be.
    #[error("{}", .0.message)]
    Refused(Refused),
    /// The environment makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The coordinator's address makes no sense.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The coordinator grants nothing, or can't be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The checkpoint can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files can't be written.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The volume can't be used.
    #[error("{path}: {source}", path = .path.display())]
    Volume {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was written can't be read again.
    #[error(transparent)]
    Proof(#[from] CaptureError),
    /// This process can't work.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// It is told to end.
    #[error("told to end before all was written; the next one goes on from what is there")]
    Ended,
}

impl DeliveryError {
    pub(crate) const fn refused(reason: Reason, message: String) -> Self {
        Self::Refused(Refused { reason, message })
    }
}

/// Writes what the environment names into the volume, once.
///
/// # Errors
/// Whatever may pass by itself. What can't is said in the last word, and is none.
pub async fn deliver() -> Result<(), DeliveryError> {
    let settings = Settings::from_env()?;
    let mut report = Report::default();
    let ended = match signal(SignalKind::terminate()) {
        Ok(mut end) => tokio::select! {
            ended = write(&settings, &mut report) => ended,
            _ = end.recv() => Err(DeliveryError::Ended),
        },
        Err(source) => Err(AgentError::Thread(source.to_string()).into()),
    };
    let ended = match ended {
        Err(DeliveryError::Refused(refused)) => {
            tracing::error!(reason = refused.reason.as_str(), "{}", refused.message);
            report.refused = Some(Refused { message: cut(&refused.message), ..refused });
            Ok(())
        }
        Err(error) => {
            report.trouble = cut(&error.to_string());
            Err(error)
        }
        Ok(()) => Ok(()),
    };
    settings.last_word(&report);
    ended
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// Writes what the settings name, one parcel after the other; what is there stands in the report.
///
/// # Errors
/// If not all of it is there.
pub async fn write(settings: &Settings, report: &mut Report) -> Result<(), DeliveryError> {
    let connection = Connection::secure(&settings.coordinator, &settings.authorities, Tokens::file(&settings.token))?;
    let connection = &connection;
    let (volume, delivery) = (volume::Volume::take(settings)?, &settings.delivery);
    for parcel in &delivery.parcels {
        let delivered = one(connection, settings, &volume, parcel).await?;
        tracing::info!(
            lineage = parcel.lineage,
            sequence = parcel.sequence,
            root = delivered.root,
            bytes = delivered.bytes,
            took_ms = delivered.took_ms,
            deviations = delivered.deviations,
            "delivered"
        );
        report.delivered.push(delivered);
    }
    volume.leave()
}

async fn one(
    connection: &Connection,
    settings: &Settings,
    volume: &volume::Volume,
    parcel: &Parcel,
) -> Result<Delivered, DeliveryError> {
    let began = Instant::now();
    let granted = granted(connection, &parcel.lineage).await?;
    let token = GrantToken::from(granted.token.clone());
    let remote = RemoteTransport::new(connection.channel(), token.clone());
    let remote: Arc<dyn Transport> = Arc::new(remote.authorized(connection.tokens().clone()).at(connection.url()));
    let transport: Arc<dyn Transport> = Arc::new(Retrying::new(remote, Retries { deadline: PATIENCE, ..Retries::default() }));
    let log = Log::new(Arc::clone(&transport), Arc::clone(&granted.domain), granted.lineage);
    let entry = log.read(parcel.sequence).await?;
    let reader = Reader::new(transport, Arc::clone(&granted.domain), tokio::runtime::Handle::current(), None);
    tracing::info!(lineage = parcel.lineage, sequence = parcel.sequence, "restoring");
    let work = work::Work::new(Arc::new(reader), entry, parcel, volume, settings.delivery.owners)?;
    let mut working = std::pin::pin!(thread::run("deliver", move || work.run()));
    let mut renew = interval(RENEW_EVERY);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let done = loop {
        tokio::select! {
            done = &mut working => break done??,
            _ = renew.tick() => match ask(connection, &parcel.lineage).await {
                Ok(granted) => token.renew(&granted.token),
                // what was granted holds for a while
                Err(error) => tracing::warn!(%error, "the right to read is not renewed"),
            },
        }
    };
    Ok(Delivered { took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), ..done })
}

/// The right to read a lineage: asked for again while the coordinator may not have written down whose pod this is.
async fn granted(connection: &Connection, lineage: &str) -> Result<Granted, SessionError> {
    let began = Instant::now();
    loop {
        match ask(connection, lineage).await {
            Err(error) if began.elapsed() < GRANTED_WITHIN => tracing::debug!(%error, "asking again"),
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(connection: &Connection, lineage: &str) -> Result<Granted, SessionError> {
    let url = || connection.url().to_owned();
    connection.tokens().renew()?;
    let request = connection.request(GrantDeliveryRequest { lineage: lineage.to_owned() });
    let mut client = AgentServiceClient::new(connection.channel());
    let answer = match tokio::time::timeout(ANSWER_WITHIN, client.grant_delivery(request)).await {
        Ok(answer) => answer.map_err(|answer| SessionError::Refused { url: url(), answer: Box::new(answer) })?,
        Err(_) => return Err(SessionError::Silent { url: url(), within: ANSWER_WITHIN }),
    };
    let grant = answer.into_inner().grant.ok_or_else(|| GrantError::missing("right"))?;
    Ok(Granted::try_from(grant)?)
}
