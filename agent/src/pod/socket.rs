// SPDX-License-Identifier: Apache-2.0
//! The socket that a pod's containers ask the agent by: abstract, so that it lies in no volume, and only in the pod's own network namespace.

use super::board::{Board, Posted};
use holdfast_core::time::Monotonic;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Who asks at once; more have to wait.
const GUESTS_MAX: usize = 16;
/// A question is one short line.
const QUESTION_BYTES_MAX: u64 = 256;
/// And comes soon.
const QUESTION_WITHIN: Duration = Duration::from_secs(5);
/// Another agent may hold the name for as long as it takes it to die.
const NAME_PAUSE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Question {
    /// Tell me when the application may start.
    Gate,
    /// The pod is being ended.
    Stopping,
}

/// The address in this pod.
///
/// # Errors
/// If the uid is too long for one.
pub(super) fn address(uid: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    std::os::unix::net::SocketAddr::from_abstract_name(format!("holdfast-{uid}"))
}

/// What is heard on the socket.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) board: Board,
    /// When the pod will be gone, once somebody has said that it is being ended.
    pub(super) stopping: watch::Sender<Option<Monotonic>>,
    pub(super) grace: Duration,
}

/// Listens, as soon as nobody else does.
///
/// # Errors
/// If the name can't be used.
pub(super) async fn listen(uid: &str) -> io::Result<UnixListener> {
    let address = address(uid)?;
    let mut told = false;
    loop {
        match std::os::unix::net::UnixListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return UnixListener::from_std(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !told {
                    tracing::warn!("another agent of this pod has the socket: waiting for its end");
                }
                told = true;
                tokio::time::sleep(NAME_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: UnixListener, heard: Heard) {
    let heard = std::sync::Arc::new(heard);
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = guests.join_next() => {}
            accepted = listener.accept(), if guests.len() < GUESTS_MAX => match accepted {
                Ok((stream, _)) => {
                    let heard = std::sync::Arc::clone(&heard);
                    // whoever asks and goes away needs no answer
                    guests.spawn(async move { drop(answer(stream, &heard).await) });
                }
                Err(error) => {
                    // out of descriptors, most likely: it passes, but not at once
                    tracing::warn!(%error, "a question was not heard");
                    tokio::time::sleep(NAME_PAUSE).await;
                }
            },
        }
    }
}

async fn answer(stream: UnixStream, heard: &Heard) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading.take(QUESTION_BYTES_MAX));
    let mut line = String::new();
    tokio::time::timeout(QUESTION_WITHIN, reading.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match serde_json::from_str(&line).map_err(io::Error::from)? {
        Question::Stopping => {
            let gone_at = crate::clock::SystemClock.monotonic().plus(heard.grace);
            // the first notice counts: the grace is not given twice
            heard.stopping.send_if_modified(|known| known.is_none() && known.replace(gone_at).is_none());
            Ok(())
        }
        Question::Gate => {
            let mut posted = heard.board.follow();
            loop {
                let now: Posted = posted.borrow_and_update().clone();
                let mut text = serde_json::to_vec(&now)?;
                text.push(b'\n');
                writing.write_all(&text).await?;
                if now.open {
                    return writing.shutdown().await;
                }
                tokio::select! {
                    changed = posted.changed() => changed.map_err(io::Error::other)?,
                    // it has gone away
                    gone = reading.read_line(&mut line) => return gone.map(|_| ()),
                }
            }
        }
    }
}
