// SPDX-License-Identifier: Apache-2.0
//! The signals that end the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at SIGTERM or SIGINT; ends when it is cancelled.
///
/// # Errors
/// If signals can't be listened to.
pub(crate) async fn cancel(stop: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end"),
        _ = interrupt.recv() => tracing::info!("told to end"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
    Ok(())
}
