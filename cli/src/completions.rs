// SPDX-License-Identifier: Apache-2.0
//! `holdfast completions` and `holdfast man`: what is made of the command line's definition.

use crate::exit::{Exit, Usage};
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

/// Write a manual page.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Of this command, such as `snapshot create` [default: of the program]
    command: Vec<String>,
}

/// Writes a manual page.
pub(crate) fn man<C: CommandFactory>(args: &ManArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let mut program = C::command();
    program.build();
    let mut command = &program;
    for word in &args.command {
        let unknown = || Usage(format!("there is no command {:?}: `holdfast --help` lists them", args.command.join(" ")));
        command = command.find_subcommand(word).ok_or_else(unknown)?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    out.bytes(&text)?;
    out.flush()?;
    Ok(Exit::ok())
}
