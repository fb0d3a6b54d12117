// SPDX-License-Identifier: Apache-2.0
//! From what people write to what the agent and the coordinator use.

use super::shapes::SHAPES;
use super::{
    ConsistencyMode, DivergenceSpec, HookSpec, HooksSpec, PathSpec, PauseWhen, ProvisionSpec, RestoreModeSpec, RetentionSpec,
    ScopeSpec, SignalName, StatePolicySpec, TakeSpec, WithoutCoordinatorSpec,
};
use crate::text::Written;
use holdfast_core::cadence::Paces;
use holdfast_core::policy::{
    Budgets, Call, Consistency, Divergence, Finding, Hook, Hooks, Policy, Provision, Quiesce, Restore, RestoreMode, Retention,
    Schedule, Scope, Severity, Signal, StatePath, Take, Tier, User, When, Window, WithoutCoordinator, rules,
};

/// What became of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The policy, if it can be used.
    pub policy: Option<Policy>,
    /// Everything to say about it.
    pub findings: Vec<Finding>,
}

impl StatePolicySpec {
    /// What this says, and everything that is wrong with it.
    #[must_use]
    pub fn resolve(&self) -> Resolved {
        let shapes = rules::findings(SHAPES, self);
        let mut reader = Reader { findings: Vec::new() };
        let policy = reader.policy(self);
        // what was not understood stands for a default here, and nothing can be said of what is compared with it
        let beside = |finding: &Finding| finding.field.rsplit_once('.').map_or_else(String::new, |(parent, _)| parent.to_owned());
        let mut unsure: Vec<String> = reader.findings.iter().map(beside).collect();
        unsure.extend(shapes.iter().map(|finding| finding.field.clone()));
        let is_sure = |finding: &Finding| !unsure.iter().any(|field| is_at_or_below(&finding.field, field));
        let mut findings = shapes;
        findings.extend(reader.findings);
        findings.extend(policy.check().into_iter().filter(is_sure));
        let usable = findings.iter().all(|finding| finding.severity != Severity::Error);
        Resolved { policy: usable.then_some(policy), findings }
    }
}

/// Whether a field is another one, or a part of it.
fn is_at_or_below(field: &str, other: &str) -> bool {
    field.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads texts and notes those that can't be understood.
struct Reader {
    findings: Vec<Finding>,
}

impl Reader {
    fn read<T: Written>(&mut self, text: &T, field: &str, instead: T::Meaning) -> T::Meaning {
        text.parse().unwrap_or_else(|| {
            self.findings.push(Finding::error(field, T::SENTENCE));
            instead
        })
    }

    fn policy(&mut self, spec: &StatePolicySpec) -> Policy {
        Policy {
            repository: spec.repository_ref.name.clone(),
            scope: match spec.scope {
                ScopeSpec::Replica => Scope::Replica,
                ScopeSpec::Shared => Scope::Shared,
            },
            paths: spec.paths.iter().enumerate().map(|(index, path)| self.path(path, index)).collect(),
            paces: self.paces(spec),
            snapshots: spec.snapshots.as_ref().map(|snapshots| Schedule {
                cron: snapshots.schedule.clone(),
                time_zone: snapshots.time_zone.clone(),
                suspended: snapshots.suspend,
                keep: count(snapshots.keep),
            }),
            consistency: self.consistency(spec),
            retention: self.retention(&spec.retention),
            restore: restore(spec),
            budgets: self.budgets(spec),
            user: match &spec.run_as {
                _ if spec.preserve_owner => User::PreserveOwner,
                Some(run_as) => User::RunAs { user: id(run_as.user), group: run_as.group.map(id) },
                None => User::Application,
            },
        }
    }

    fn path(&mut self, path: &PathSpec, index: usize) -> StatePath {
        let field = format!("spec.paths[{index}].provision");
        StatePath {
            label: path.label.clone(),
            path: path.path.clone(),
            include: path.include.clone(),
            exclude: path.exclude.clone(),
            provision: path.provision.as_ref().and_then(|provision| self.provision(provision, &field)),
        }
    }

    fn provision(&mut self, provision: &ProvisionSpec, field: &str) -> Option<Provision> {
        const ANY: u64 = 1 << 30;
        if let Some(volume) = &provision.ephemeral_volume {
            let size_bytes = self.read(&volume.size, &format!("{field}.ephemeralVolume.size"), ANY);
            return Some(Provision::EphemeralVolume { size_bytes, storage_class: volume.storage_class_name.clone() });
        }
        let directory = provision.empty_dir.as_ref()?;
        let limit = directory.size_limit.as_ref();
        Some(Provision::EmptyDir {
            size_limit_bytes: limit.map(|limit| self.read(limit, &format!("{field}.emptyDir.sizeLimit"), ANY)),
        })
    }

    fn paces(&mut self, spec: &StatePolicySpec) -> Paces {
        let (cadence, usual) = (&spec.cadence, Paces::default());
        Paces {
            settle: self.read(&cadence.settle, "spec.cadence.settle", usual.settle),
            quiet: self.read(&cadence.quiet, "spec.cadence.quiet", usual.quiet),
            limit: self.read(&cadence.limit, "spec.cadence.limit", usual.limit),
            scan: self.read(&cadence.scan, "spec.cadence.scan", usual.scan),
        }
    }

    fn consistency(&mut self, spec: &StatePolicySpec) -> Consistency {
        let consistency = &spec.consistency;
        let hooks = consistency.hooks.as_ref().and_then(|hooks| self.hooks(hooks));
        Consistency {
            quiesce: match (consistency.mode, hooks) {
                (ConsistencyMode::Hooks, Some(hooks)) => Quiesce::Hooks(hooks),
                (ConsistencyMode::Freeze, _) => Quiesce::Freeze,
                (ConsistencyMode::None | ConsistencyMode::Hooks, _) => Quiesce::Nothing,
            },
            when: match consistency.when {
                PauseWhen::Snapshots => When::Snapshots,
                PauseWhen::EveryCheckpoint => When::EveryCheckpoint,
            },
            pause_budget: self.read(&consistency.pause_budget, "spec.consistency.pauseBudget", std::time::Duration::from_secs(5)),
        }
    }

    fn hooks(&mut self, hooks: &HooksSpec) -> Option<Hooks> {
        let before = self.hook(&hooks.before, "before");
        let after = hooks.after.as_ref().and_then(|after| self.hook(after, "after"));
        Some(Hooks { before: before?, after })
    }

    fn hook(&mut self, hook: &HookSpec, name: &str) -> Option<Hook> {
        let field = format!("spec.consistency.hooks.{name}.timeout");
        let timeout = self.read(&hook.timeout, &field, std::time::Duration::from_secs(2));
        let call = match (&hook.http, &hook.unix_socket, &hook.signal) {
            (Some(http), None, None) => Call::Http { port: u16::try_from(http.port).unwrap_or(0), path: http.path.clone() },
            (None, Some(socket), None) => {
                Call::Socket { path: socket.path.clone(), send: socket.send.clone(), expect: socket.expect.clone() }
            }
            (None, None, Some(signal)) => Call::Signal { signal: signal_of(signal.name), process: signal.process.clone() },
            _ => return None,
        };
        Some(Hook { call, timeout })
    }

    fn retention(&mut self, keep: &RetentionSpec) -> Retention {
        let keep_all = self.read(&keep.keep_all, "spec.retention.keepAll", std::time::Duration::from_hours(1));
        let named = [
            (Window::Hour, keep.hourly),
            (Window::Day, keep.daily),
            (Window::Week, keep.weekly),
            (Window::Month, keep.monthly),
            (Window::Year, keep.yearly),
        ];
        if keep.keep_every.is_empty() && named.iter().all(|(_, windows)| windows.is_none()) {
            let usual = [(Window::Hour, 48), (Window::Day, 30), (Window::Month, 12)];
            return Retention { keep_all, tiers: usual.map(|(window, count)| Tier { window, count }).to_vec() };
        }
        let mut tiers = Vec::new();
        for (index, tier) in keep.keep_every.iter().enumerate() {
            let field = format!("spec.retention.keepEvery[{index}]");
            let every = self.read(&tier.every, &format!("{field}.every"), std::time::Duration::from_hours(1));
            let keep_for = self.read(&tier.r#for, &format!("{field}.for"), every.saturating_mul(2));
            tiers.push(Tier::every(every, keep_for));
        }
        let said = named.into_iter().filter_map(|(window, windows)| Some((window, count(windows?))));
        tiers.extend(said.filter(|(_, count)| *count > 0).map(|(window, count)| Tier { window, count }));
        Retention { keep_all, tiers }
    }

    fn budgets(&mut self, spec: &StatePolicySpec) -> Budgets {
        let budgets = &spec.budgets;
        Budgets {
            cpu_millis: self.read(&budgets.cpu, "spec.budgets.cpu", 500),
            memory_bytes: self.read(&budgets.memory, "spec.budgets.memory", 64 << 20),
            scratch_bytes: self.read(&budgets.scratch, "spec.budgets.scratch", 1 << 30),
            read_bytes_per_second: budgets.read.as_ref().map(|rate| self.read(rate, "spec.budgets.read", u64::MAX)),
            upload_bytes_per_second: budgets.upload.as_ref().map(|rate| self.read(rate, "spec.budgets.upload", u64::MAX)),
        }
    }
}

fn restore(spec: &StatePolicySpec) -> Restore {
    let restore = &spec.restore;
    Restore {
        mode: match restore.mode {
            RestoreModeSpec::IfEmpty => RestoreMode::IfEmpty,
            RestoreModeSpec::Always => RestoreMode::Always,
            RestoreModeSpec::Never => RestoreMode::Never,
        },
        take: match restore.take {
            TakeSpec::Clean => Take::Clean,
            TakeSpec::Newest => Take::Newest,
        },
        on_divergence: match restore.on_divergence {
            DivergenceSpec::Wait => Divergence::Wait,
            DivergenceSpec::PreferDisk => Divergence::PreferDisk,
            DivergenceSpec::PreferStore => Divergence::PreferStore,
        },
        without_coordinator: match restore.without_coordinator {
            WithoutCoordinatorSpec::Wait => WithoutCoordinator::Wait,
            WithoutCoordinatorSpec::SameVolume => WithoutCoordinator::SameVolume,
        },
        special_files: restore.special_files,
    }
}

const fn signal_of(name: SignalName) -> Signal {
    match name {
        SignalName::Hup => Signal::Hup,
        SignalName::Usr1 => Signal::Usr1,
        SignalName::Usr2 => Signal::Usr2,
    }
}

/// A count that the schema keeps from being negative.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A user or group that the schema keeps in range.
fn id(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
