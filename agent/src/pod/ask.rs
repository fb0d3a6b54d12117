// SPDX-License-Identifier: Apache-2.0
//! The two small programs beside the agent: the gate, which ends when the application may start, and the notice that the pod is being ended.

use super::board::Posted;
use super::settings::UID_VARIABLE;
use super::socket::{self, Question};
use anyhow::Context;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as Stream;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

/// Between tries: the agent may be restarting.
const PAUSE: Duration = Duration::from_millis(200);
/// The notice must never hold up the end of a pod.
const NOTICE_WITHIN: Duration = Duration::from_millis(500);

fn uid() -> anyhow::Result<String> {
    std::env::var(UID_VARIABLE).with_context(|| format!("read {UID_VARIABLE} from the environment"))
}

fn question(question: &Question) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    Ok(line)
}

async fn connect(uid: &str) -> io::Result<UnixStream> {
    let stream = Stream::connect_addr(&socket::address(uid)?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Waits until the application may start, however often the agent is restarted meanwhile, and says why it waits.
///
/// # Errors
/// If the environment has no pod's uid, or the process is told to end before.
pub async fn gate() -> anyhow::Result<()> {
    let uid = uid()?;
    // the first process of a container hears of a signal only if it asks to
    let mut end = signal(SignalKind::terminate())?;
    tokio::select! {
        () = opened(&uid) => Ok(()),
        _ = end.recv() => anyhow::bail!("told to end before the gate was opened"),
    }
}

async fn opened(uid: &str) {
    let mut said = None;
    loop {
        match follow(uid, &mut said).await {
            Ok(true) => return,
            Ok(false) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Follows one agent's board; `true`: the gate is open.
async fn follow(uid: &str, said: &mut Option<Posted>) -> io::Result<bool> {
    let mut stream = connect(uid).await?;
    stream.write_all(&question(&Question::Gate)?).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        let posted: Posted = serde_json::from_str(&line)?;
        if said.as_ref() != Some(&posted) {
            say(&posted);
        }
        if posted.open {
            return Ok(true);
        }
        *said = Some(posted);
    }
    Ok(false)
}

fn say(posted: &Posted) {
    let text =
        if posted.open { "the application may start".to_owned() } else { format!("{}: {}", posted.reason, posted.message) };
    // nobody may be reading: then there is nobody to tell
    let _ = writeln!(io::stdout(), "{text}");
}

/// Tells the agent that the pod is being ended. Whatever happens, this is soon over and no failure: it must not hold up the end.
pub async fn stopping() {
    let told = async {
        let uid = uid().ok()?;
        let mut stream = connect(&uid).await.ok()?;
        stream.write_all(&question(&Question::Stopping).ok()?).await.ok()?;
        stream.shutdown().await.ok()
    };
    let _ = tokio::time::timeout(NOTICE_WITHIN, told).await;
}
