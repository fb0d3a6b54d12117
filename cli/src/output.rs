// SPDX-License-Identifier: Apache-2.0
//! What the program says: results on standard output, everything else on standard error. Nobody else prints.

use crate::human::clean;
use crate::table::Table;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: one document, or one line for each item of a stream
    Json,
}

/// Whoever reads standard output has gone, or it can't be written.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output")]
pub(crate) struct OutputError(#[from] io::Error);

impl OutputError {
    /// `holdfast … | head` has seen enough: that is no error.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

type Result = std::result::Result<(), OutputError>;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    /// Standard output in this form; colours on terminals only, and never with `NO_COLOR`.
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = !plain && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { format, colour, out: BufWriter::new(io::stdout()) }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The one document of a command.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> Result {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(self.out.flush()?)
    }

    /// One item of a stream, which may be read as soon as it is written if `now`.
    pub(crate) fn item(&mut self, value: &impl Serialize, now: bool) -> Result {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        if now { self.flush() } else { Ok(()) }
    }

    /// A line for people. Nothing in it can steer a terminal.
    pub(crate) fn line(&mut self, text: &str) -> Result {
        Ok(writeln!(self.out, "{}", clean(text))?)
    }

    /// Rows for people.
    pub(crate) fn table(&mut self, table: &Table) -> Result {
        Ok(table.write(&mut self.out, self.colour)?)
    }

    /// Bytes as they are: the content of a file.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.out.write_all(bytes)?)
    }

    /// Everything written so far may be read.
    pub(crate) fn flush(&mut self) -> Result {
        Ok(self.out.flush()?)
    }
}

/// Says something to whoever runs the program, beside the result.
#[allow(clippy::print_stderr, reason = "the program's one way to say something beside its result")]
pub(crate) fn note(text: &str) {
    eprintln!("holdfast: {}", clean(text));
}

/// Several lines to whoever runs the program, without the program's name before each.
#[allow(clippy::print_stderr, reason = "the program's one way to say something beside its result")]
pub(crate) fn notes(table: &Table) {
    let mut text = Vec::new();
    if table.write(&mut text, false).is_ok() {
        eprint!("{}", String::from_utf8_lossy(&text));
    }
}

/// Whether standard error is a terminal, so that progress can be shown.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal()
}
