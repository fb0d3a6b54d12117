// SPDX-License-Identifier: Apache-2.0
//! Says in plain words what a policy means.

mod month;
mod start;

use crate::quantity::{show_bytes, show_duration};
use holdfast_core::policy::{Budgets, Call, Hook, Policy, Provision, Quiesce, Scope, StatePath, User, When};

/// Sections of text, with titles.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}\n"));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&format!("  {line}\n"));
    }
}

/// What this policy means: what is protected, how often, what a crash can lose, what a start does, and what is kept.
#[must_use]
pub fn explain(policy: &Policy, name: &str) -> String {
    let mut page = Page::default();
    page.text.push_str(&format!("Policy {name}\n"));
    protected(policy, &mut page);
    captures(policy, &mut page);
    losses(policy, &mut page);
    rests(policy, &mut page);
    start::explain(policy, &mut page);
    month::explain(policy, &mut page);
    budgets(&policy.budgets, policy.user, &mut page);
    page.text
}

fn protected(policy: &Policy, page: &mut Page) {
    page.title("What is protected");
    for path in &policy.paths {
        page.line(&format!("{}: {}", path.label, of_path(path)));
    }
    let whose = match policy.scope {
        Scope::Replica => "Every replica has a history of its own",
        Scope::Shared => "All replicas share one history, which one of them writes",
    };
    page.line(&format!("{whose}, in the repository {:?}.", policy.repository));
    if policy.paths.len() > 1 {
        page.line("The paths are captured and restored together, as one state.");
    }
}

fn of_path(path: &StatePath) -> String {
    let mut text = path.path.clone();
    if !path.include.is_empty() {
        text.push_str(&format!(", of it only {}", path.include.join(", ")));
    }
    if !path.exclude.is_empty() {
        text.push_str(&format!(", without {}", path.exclude.join(", ")));
    }
    match &path.provision {
        Some(Provision::EphemeralVolume { size_bytes, .. }) => {
            text.push_str(&format!(
                "; a volume of {} is added where the pod has none, and goes with the pod",
                show_bytes(*size_bytes)
            ));
        }
        Some(Provision::EmptyDir { .. }) => {
            text.push_str("; a directory of the node is added where the pod has none, and goes with the pod");
        }
        None => {}
    }
    text
}

fn captures(policy: &Policy, page: &mut Page) {
    let paces = &policy.paces;
    page.title("How often");
    page.line(&format!("A lone change is captured {} after it happened.", show_duration(paces.settle)));
    let (quiet, limit) = (show_duration(paces.quiet), show_duration(paces.limit));
    page.line(&format!(
        "While changes go on, they are captured once there was none for {quiet}, and every {limit} at the latest."
    ));
    page.line(&format!(
        "Every {}, all files are compared with the last capture, for writes that make no noise.",
        show_duration(paces.scan)
    ));
    match &policy.snapshots {
        None => page.line("Snapshots across replicas are taken when somebody asks."),
        Some(schedule) => {
            let words = schedule.in_words().unwrap_or_else(|| schedule.cron.clone());
            let keep = schedule.keep;
            let suspended = if schedule.suspended { "; at present suspended" } else { "" };
            page.line(&format!(
                "A snapshot of all replicas is taken {words} ({}); the last {keep} of them are kept{suspended}.",
                schedule.time_zone
            ));
        }
    }
}

fn losses(policy: &Policy, page: &mut Page) {
    let (paces, budgets) = (&policy.paces, &policy.budgets);
    page.title("What a crash can lose");
    let provisioned = policy.paths.iter().any(|path| path.provision.is_some());
    if !provisioned {
        page.line("The program or the pod is killed and its volume remains: nothing that was written to the disk.");
    }
    page.line("The pod is deleted in good order: nothing, if its last changes are uploaded within its grace period.");
    let lost =
        if provisioned { "The pod, its node or the cluster is lost" } else { "The volume, the node or the cluster is lost" };
    let limit = show_duration(paces.limit);
    page.line(&format!("{lost}: the last {limit} of changes at most, plus what was being uploaded."));
    page.line(&format!(
        "Changes that only a comparison finds (memory-mapped files, writers on other nodes): up to {}.",
        show_duration(paces.scan.saturating_add(paces.limit))
    ));
    if let Some(rate) = budgets.upload_bytes_per_second {
        let seconds = (1_u64 << 30).div_ceil(rate.max(1));
        let took = show_duration(std::time::Duration::from_secs(seconds));
        page.line(&format!(
            "The upload budget of {}B/s makes a burst of 1 GiB take {took}: so much older may the newest copy be.",
            show_bytes(rate)
        ));
    }
}

fn rests(policy: &Policy, page: &mut Page) {
    let consistency = &policy.consistency;
    page.title("How consistent it is");
    page.line("A checkpoint is clean if nothing changed while it was captured, and fuzzy otherwise; both are kept, and marked.");
    let (when, budget) = (consistency.when, show_duration(consistency.pause_budget));
    let occasion = match when {
        When::Snapshots => "For snapshots",
        When::EveryCheckpoint => "For every checkpoint",
    };
    match &consistency.quiesce {
        Quiesce::Nothing => {
            page.line("The application is never brought to rest: files that are written all the time make fuzzy checkpoints,");
            page.line("and a snapshot holds each of them as it was when it was read, some earlier, some later.");
            return;
        }
        Quiesce::Freeze => {
            page.line(&format!("{occasion}, the application's processes are stopped and go on after {budget} at the latest."));
        }
        Quiesce::Hooks(hooks) => {
            page.line(&format!("{occasion}, the application is asked to rest {}.", of_hook(&hooks.before)));
            match &hooks.after {
                Some(after) => page.line(&format!("It is asked to go on {}, after {budget} at the latest.", of_hook(after))),
                None => page.line(&format!("It goes on by itself; a capture that takes longer than {budget} is fuzzy.")),
            }
        }
    }
    page.line(match when {
        When::Snapshots => "Checkpoints between snapshots are captured while it runs.",
        When::EveryCheckpoint => "What is captured without that rest is fuzzy.",
    });
}

fn of_hook(hook: &Hook) -> String {
    let by = match &hook.call {
        Call::Http { port, path } => format!("by POST http://127.0.0.1:{port}{path}"),
        Call::Socket { path, send, .. } => format!("by {send:?} on the socket {path}"),
        Call::Signal { signal, process } => {
            return format!("by {} to {process}, and given {}", signal.name(), show_duration(hook.timeout));
        }
    };
    format!("{by}, which may take {}", show_duration(hook.timeout))
}

fn budgets(budgets: &Budgets, user: User, page: &mut Page) {
    page.title("What the agent uses");
    let (memory, scratch) = (show_bytes(budgets.memory_bytes), show_bytes(budgets.scratch_bytes));
    let cores = f64::from(budgets.cpu_millis) / 1000.0;
    page.line(&format!("At most {cores} of a core, {memory} of memory and {scratch} of disk space beside the application's."));
    let rate =
        |rate: Option<u64>| rate.map_or_else(|| "without limit".to_owned(), |rate| format!("at up to {}B/s", show_bytes(rate)));
    let (read, upload) = (rate(budgets.read_bytes_per_second), rate(budgets.upload_bytes_per_second));
    page.line(&format!("It reads files {read}, and uploads {upload}."));
    page.line(&match user {
        User::Application => {
            "It runs as the user that the pod declares: it sees, and can restore, what that user may.".to_owned()
        }
        User::RunAs { user, group: None } => format!("It runs as user {user}: it sees, and can restore, what that user may."),
        User::RunAs { user, group: Some(group) } => {
            format!("It runs as user {user} and group {group}: it sees, and can restore, what they may.")
        }
        User::PreserveOwner => {
            "It runs as root with CHOWN, DAC_OVERRIDE and FOWNER only, and restores every file's owner.".to_owned()
        }
    });
}

#[cfg(test)]
mod tests;
