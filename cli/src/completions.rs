// SPDX-License-Identifier: Apache-2.0
//! `holdfast completions` and `holdfast man`: what is made of the command line's definition.

use crate::exit::Exit;
use crate::output::Output;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Write completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Writes them.
pub(crate) fn completions<C: CommandFactory>(args: &CompletionsArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "holdfast", &mut text);
    out.bytes(&text)?;
    out.flush()?;
    Ok(Exit::ok())
}

/// Writes the manual page.
pub(crate) fn man<C: CommandFactory>(out: &mut Output) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_mangen::Man::new(C::command()).render(&mut text)?;
    out.bytes(&text)?;
    out.flush()?;
    Ok(Exit::ok())
}
