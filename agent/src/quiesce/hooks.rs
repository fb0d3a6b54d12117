// SPDX-License-Identifier: Apache-2.0
//! Asking the application to come to rest, or to go on.

use super::Whom;
use super::processes::list;
use holdfast_core::pod::PodHook;
use holdfast_core::policy::{Call, Signal as Meant};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Of an answer nothing but its first line is of interest.
const ANSWER_BYTES_MAX: u64 = 4096;
/// As many bytes of its name a process shows.
const NAME_BYTES: usize = 15;

/// Asks, and waits for a yes, no longer than the hook says, and not beyond the deadline. Blocks.
pub(super) fn call(hook: &PodHook, whom: Whom, deadline: Option<Instant>) -> Result<(), String> {
    let timeout = Duration::from_millis(hook.timeout_ms);
    let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
    let within = timeout.min(left);
    match hook.call.clone() {
        Call::Signal { signal, process } => {
            send(signal, &process, whom)?;
            // there is no answer
            let (_never, answer) = mpsc::sync_channel::<()>(0);
            let _ = answer.recv_timeout(within);
            if within < timeout { Err(format!("there was no time to wait {timeout:?} after {signal:?}")) } else { Ok(()) }
        }
        Call::Http { port, path } => in_time(within, move || post(port, &path, within)),
        Call::Socket { path, send, expect } => in_time(within, move || line(&path, &send, expect.as_deref(), within)),
    }
}

/// Whatever hangs is left hanging: this process does not live long.
fn in_time(within: Duration, ask: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    let (done, wait) = mpsc::sync_channel(1);
    let asking = std::thread::Builder::new().spawn(move || drop(done.send(ask())));
    asking.map_err(|error| format!("the application can't be asked: {error}"))?;
    wait.recv_timeout(within).unwrap_or_else(|_| Err(format!("the application did not answer within {within:?}")))
}

fn post(port: u16, path: &str, within: Duration) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |error: io::Error| format!("POST http://{address}{path}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, within.max(Duration::from_millis(1))).map_err(failed)?;
    let request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let status = first_line(&mut stream).map_err(failed)?;
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    let is_yes = code.len() == 3 && code.starts_with('2') && code.bytes().all(|digit| digit.is_ascii_digit());
    if is_yes { Ok(()) } else { Err(format!("POST http://{address}{path} was answered with {code:?}")) }
}

fn line(path: &str, send: &str, expect: Option<&str>, within: Duration) -> Result<(), String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_write_timeout(Some(within.max(Duration::from_millis(1)))).map_err(failed)?;
    stream.write_all(format!("{send}\n").as_bytes()).map_err(failed)?;
    let answer = first_line(&mut stream).map_err(failed)?;
    // what it says may be anything: it is not repeated
    if expect.is_none_or(|expect| answer.starts_with(expect)) {
        Ok(())
    } else {
        Err(format!("{path} did not answer as expected"))
    }
}

fn first_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// To every process with that name. One that gives the signal no meaning of its own would end: it is left alone.
fn send(signal: Meant, name: &str, whom: Whom) -> Result<(), String> {
    let signal = match signal {
        Meant::Hup => Signal::HUP,
        Meant::Usr1 => Signal::USR1,
        Meant::Usr2 => Signal::USR2,
    };
    let processes = list(whom).map_err(|error| format!("the processes can't be listed: {error}"))?;
    let processes = processes.ok_or("the processes of the whole machine are visible here: none of them is signalled")?;
    let shown = name.get(..NAME_BYTES).unwrap_or(name);
    let named: Vec<_> = processes.iter().filter(|process| !process.is_over() && process.name() == shown).collect();
    if named.is_empty() {
        return Err(format!("there is no process called {name}: does the pod share its processes?"));
    }
    if let Some(deaf) = named.iter().find(|process| !process.catches(signal.as_raw())) {
        return Err(format!("process {} ({name}) does not catch {signal:?}: it would end", deaf.id));
    }
    for process in named {
        let sent = Pid::from_raw(process.id).map_or(Ok(()), |id| kill_process(id, signal));
        sent.map_err(|error| format!("process {} ({name}) can't be signalled: {error}", process.id))?;
    }
    Ok(())
}
