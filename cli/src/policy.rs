// SPDX-License-Identifier: Apache-2.0
//! `holdfast policy`: says what is wrong with policies, and what they mean, without a cluster.

use crate::exit::{Exit, NotFound, USAGE};
use crate::output::Output;
use anyhow::Context;
use clap::{Args, Subcommand};
use holdfast_api::check::{Located, Report};
use holdfast_api::{check_yaml, explain};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Check and explain policies.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say everything that is wrong with the policies in files, as the API server would and more; exit code 2 if they can't be used
    Check {
        /// YAML files; - is the standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say in plain words what the policies in a file mean
    Explain {
        /// A YAML file; - is the standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Explained {
    policies: Vec<Explanation>,
    report: Report,
}

#[derive(Debug, Serialize)]
struct Explanation {
    namespace: Option<String>,
    name: String,
    text: String,
}

/// Checks or explains.
pub(crate) fn run(args: PolicyArgs, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        PolicyCommand::Check { files } => check(&files, out),
        PolicyCommand::Explain { file } => explain_file(&file, out),
    }
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("read the standard input")?;
        return Ok(check_yaml(&text, "-"));
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    Ok(check_yaml(&text, &file.display().to_string()))
}

/// How the program ends after these.
fn verdict<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Exit {
    let usable = reports.into_iter().all(|report| report.counts().0 == 0);
    if usable { Exit::ok() } else { Exit::with(USAGE) }
}

fn check(files: &[PathBuf], out: &mut Output) -> anyhow::Result<Exit> {
    let reports: Vec<Report> = files.iter().map(|file| read(file)).collect::<anyhow::Result<_>>()?;
    if out.is_json() {
        out.document(&reports)?;
    } else {
        for line in reports.iter().flat_map(in_lines) {
            out.line(&line)?;
        }
        out.flush()?;
    }
    Ok(verdict(&reports))
}

/// A line for each finding, as compilers write them, and one for the file.
fn in_lines(report: &Report) -> Vec<String> {
    let findings = report.findings().map(|finding| {
        let Located { line, column, severity, field, sentence } = finding;
        let about = if field.is_empty() { String::new() } else { format!("{field}: ") };
        format!("{}:{line}:{column}: {severity}: {about}{sentence}", report.file)
    });
    let mut lines: Vec<String> = findings.collect();
    let counted = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let (errors, warnings) = report.counts();
    let found = match (errors, warnings) {
        (0, 0) => "ok".to_owned(),
        (0, _) => format!("ok, {}", counted(warnings, "warning")),
        (_, 0) => counted(errors, "error"),
        _ => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    lines.push(format!("{}: {} checked: {found}", report.file, counted(report.looked_at(), "document")));
    lines
}

fn explain_file(file: &Path, out: &mut Output) -> anyhow::Result<Exit> {
    let report = read(file)?;
    let usable = report.documents.iter().filter_map(|document| Some((document, document.policy.as_ref()?)));
    let policies: Vec<Explanation> = usable
        .map(|(document, policy)| Explanation {
            namespace: document.namespace.clone(),
            name: document.name.clone(),
            text: explain(policy, &document.name),
        })
        .collect();
    let exit = verdict([&report]);
    if policies.is_empty() && exit.code == 0 {
        return Err(NotFound(format!("{} holds no StatePolicy", file.display())).into());
    }
    if out.is_json() {
        out.document(&Explained { policies, report })?;
        return Ok(exit);
    }
    let mut lines = if exit.code == 0 { Vec::new() } else { in_lines(&report) };
    for policy in &policies {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(policy.text.lines().map(str::to_owned));
    }
    for line in &lines {
        out.line(line)?;
    }
    out.flush()?;
    Ok(exit)
}
