// SPDX-License-Identifier: Apache-2.0
//! The agent in a pod: told by its environment, let in by the pod's token, asked by the pod's other containers.
//!
//! ```text
//! settings   the environment, resolved
//! life       from the start to SIGTERM: session, gate, agent, and again
//!   alone      a start without a coordinator, on the volume of the last checkpoint
//!   words      why the application may not start, for people
//! board      what the gate is told
//! socket     where the gate and the preStop hook ask; ask is their side of it
//! receipt    the last word
//! ```

mod alone;
mod ask;
mod board;
mod life;
mod receipt;
mod settings;
mod socket;
mod words;

pub use ask::{gate, stopping};
pub use board::{Board, Posted};
pub use receipt::Receipt;
pub(crate) use settings::Variables;
pub use settings::{Settings, SettingsError};
pub use socket::Question;
pub use words::Why;

use life::Life;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Protects the pod's state until SIGTERM: then what is left is captured as far as there is time, and the lineage closed.
///
/// # Errors
/// If the environment makes no sense, or the socket can't be used. Nothing else ends it: the application is never stopped by its protector.
pub async fn serve() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    settings.quiescing().go_on_first();
    let mut end = signal(SignalKind::terminate())?;
    let (ending, ended) = watch::channel(false);
    let (stopping, heeded) = watch::channel(None);
    let board = Board::default();
    let listening = socket::listen(&settings.uid);
    let heard = socket::Heard { board: board.clone(), stopping, grace: settings.grace };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while end.recv().await.is_some() {
            tracing::info!("told to end");
            ending.send_replace(true);
        }
    });
    let life = Life::new(settings.clone(), board, heeded, ended)?;
    // whoever waits for the gate must hear of it as soon as there is something to hear, and not after the first session
    let serving = async {
        match listening.await {
            Ok(listener) => socket::serve(listener, heard).await,
            Err(error) => tracing::error!(%error, "the gate can't ask: the socket can't be used"),
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = life.run() => {}
        () = serving => {}
    }
    tasks.shutdown().await;
    Ok(())
}
