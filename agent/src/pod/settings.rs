// SPDX-License-Identifier: Apache-2.0
//! What a pod's agent is told by its environment, resolved: whatever is wrong with it is said in one sentence.

use crate::config::{AgentConfig, Budget, StatePath};
use crate::quiesce::{Means, Quiescing};
use crate::session::{Offer, Start};
use holdfast_core::cadence::Paces;
use holdfast_core::disk::{Choices, Prefer};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::pod::{CONFIG_VARIABLE, PodConfig, PodDivergence, PodPath, PodRestore};
use holdfast_store::capture::Filter;
use holdfast_store::tree::kind::is_label;
use holdfast_store::write::{Takeover, Tuning};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that holds the pod's uid: also the name of the socket.
pub(super) const UID_VARIABLE: &str = "HOLDFAST_POD_UID";
/// Directories watched in a pod: about 500 bytes of the agent's memory each.
const WATCHES_MAX: usize = 8192;
/// No answer of a coordinator for so long, and a start may do without one.
const ALONE_AFTER: Duration = Duration::from_secs(30);
/// An agent with less memory than this would not work.
const MEMORY_BYTES_MIN: u64 = 32 << 20;

/// The environment does not say what it should.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct SettingsError {
    variable: &'static str,
    what: String,
}

impl SettingsError {
    pub(crate) const fn new(variable: &'static str, what: String) -> Self {
        Self { variable, what }
    }
}

/// What a pod's agent is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What its policy says.
    pub policy: PodConfig,
    /// The state paths.
    pub paths: Vec<StatePath>,
    /// The pod's uid.
    pub uid: String,
    /// Who this is, for people.
    pub holder: String,
    /// Who this is, for programs: the same as long as the pod lives.
    pub holder_key: HolderKey,
    /// The coordinator's address.
    pub coordinator: String,
    /// Its certificates.
    pub authorities: PathBuf,
    /// The pod's token.
    pub token: PathBuf,
    /// From the notice that the pod is being ended until it is gone.
    pub grace: Duration,
    /// Scratch space.
    pub scratch: PathBuf,
    /// Where the last word goes.
    pub termination_log: PathBuf,
    /// No answer of a coordinator for so long, and a start may do without one.
    pub alone_after: Duration,
}

/// Reads variables.
pub(crate) struct Variables<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    pub(crate) const fn new(read: F) -> Self {
        Self(read)
    }

    pub(crate) fn text(&self, variable: &'static str) -> Result<String, SettingsError> {
        let wrong = |what: &str| SettingsError { variable, what: what.to_owned() };
        let value = (self.0)(variable).ok_or_else(|| wrong("it is not set"))?;
        let text = value.into_string().map_err(|_| wrong("it is not text"))?;
        if text.is_empty() { Err(wrong("it is empty")) } else { Ok(text) }
    }

    fn seconds(&self, variable: &'static str) -> Result<Duration, SettingsError> {
        let text = self.text(variable)?;
        let wrong = |_| SettingsError { variable, what: format!("{text:?} is not a number of seconds") };
        text.parse().map(Duration::from_secs).map_err(wrong)
    }

    pub(crate) fn path(&self, variable: &'static str) -> Result<PathBuf, SettingsError> {
        let path = PathBuf::from(self.text(variable)?);
        let wrong = || SettingsError { variable, what: format!("{} is not an absolute path", path.display()) };
        if path.is_absolute() { Ok(path) } else { Err(wrong()) }
    }
}

impl Settings {
    /// From the process's environment.
    ///
    /// # Errors
    /// What is missing, or makes no sense.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let env = Variables::new(env);
        let policy = policy(&env.text(CONFIG_VARIABLE)?)?;
        let wrong = |what| SettingsError { variable: CONFIG_VARIABLE, what };
        let paths = paths(&policy.paths).map_err(wrong)?;
        let uid = env.text(UID_VARIABLE)?;
        let (pod, node) = (env.text("HOLDFAST_POD_NAME")?, env.text("HOLDFAST_NODE_NAME")?);
        let digest: [u8; 32] = Sha256::digest(format!("holdfast pod {uid}")).into();
        let holder_key = HolderKey::new(digest.first_chunk().copied().unwrap_or_default());
        Ok(Self {
            policy,
            paths,
            holder: format!("pod {pod} on {node}"),
            holder_key,
            uid,
            coordinator: env.text("HOLDFAST_COORDINATOR")?,
            authorities: env.path("HOLDFAST_CA_FILE")?,
            token: env.path("HOLDFAST_TOKEN_FILE")?,
            grace: env.seconds("HOLDFAST_GRACE_SECONDS")?,
            scratch: env.path("HOLDFAST_SCRATCH")?,
            termination_log: env.path("HOLDFAST_TERMINATION_LOG").unwrap_or_else(|_| Path::new("/dev/termination-log").into()),
            alone_after: env.seconds("HOLDFAST_ALONE_AFTER_SECONDS").unwrap_or(ALONE_AFTER),
        })
    }

    /// What the agent is told, with what the coordinator says.
    #[must_use]
    pub fn agent(&self, lineage: &str, owner: OwnerId, offer: Offer) -> AgentConfig {
        let policy = &self.policy;
        let millis = Duration::from_millis;
        let by_policy = match policy.on_divergence {
            PodDivergence::Wait => Prefer::Nobody,
            PodDivergence::PreferDisk => Prefer::Disk,
            PodDivergence::PreferStore => Prefer::Store,
        };
        AgentConfig {
            lineage: lineage.to_owned(),
            paths: self.paths.clone(),
            owner,
            holder: self.holder.clone(),
            takeover: match (offer.take_over, offer.start) {
                // a person has decided whose it is from now on
                (_, Start::AdoptDisk | Start::PreferStore | Start::Fresh) => Takeover::Anybody,
                (true, Start::AsConfigured) => Takeover::SameOwner,
                (false, Start::AsConfigured) => Takeover::Polite(Some(self.holder_key)),
            },
            choices: Choices {
                adopt_disk: matches!(offer.start, Start::AdoptDisk | Start::Fresh),
                fresh: offer.start == Start::Fresh,
                // what was restored halfway has never been given to the application
                resume: true,
                never_restore: policy.restore == PodRestore::Never,
                always_restore: policy.restore == PodRestore::Always,
                on_divergence: if offer.start == Start::PreferStore { Prefer::Store } else { by_policy },
                place: Some(self.holder_key),
            },
            clean_only: policy.clean_only,
            special: policy.special_files,
            paces: Paces {
                settle: millis(policy.settle_ms),
                quiet: millis(policy.quiet_ms),
                limit: millis(policy.limit_ms),
                scan: millis(policy.scan_ms),
            },
            partial_after: AgentConfig::PARTIAL_AFTER,
            scratch: self.scratch.clone(),
            scratch_bytes: policy.scratch_bytes,
            watches_max: WATCHES_MAX,
            reflink: true,
            tuning: self.tuning(),
            holder_key: Some(self.holder_key),
            budget: Budget { cpu_millis: Some(policy.cpu_millis), read_bytes_per_second: policy.read_bytes_per_second },
        }
    }

    /// How the application is brought to rest.
    #[must_use]
    pub fn quiescing(&self) -> Quiescing {
        let Some(quiesce) = self.policy.quiesce.clone() else { return Quiescing::nothing() };
        Quiescing {
            means: Means::of_pod(quiesce.means),
            budget: Duration::from_millis(quiesce.pause_budget_ms),
            every_checkpoint: quiesce.every_checkpoint,
            // this very program, whatever the image calls it
            keeper: (PathBuf::from("/proc/self/exe"), vec!["keeper".into()]),
        }
    }

    /// What fits into the memory that there is: packs on their way are most of it.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        let usual = Tuning::default();
        let encoders = if self.policy.cpu_millis > 1000 { usual.encoders.min(2) } else { 1 };
        let roomy = self.policy.memory_bytes >= 128 << 20;
        Tuning { encoders, uploads: if roomy { usual.uploads } else { 2 }, ..usual }
    }
}

fn policy(text: &str) -> Result<PodConfig, SettingsError> {
    let wrong = |what| SettingsError { variable: CONFIG_VARIABLE, what };
    let parsed: PodConfig = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if parsed.version != PodConfig::VERSION {
        let (version, ours) = (parsed.version, PodConfig::VERSION);
        return Err(wrong(format!(
            "it is of version {version}, and this agent reads version {ours}: use the agent of the webhook's release"
        )));
    }
    if parsed.memory_bytes < MEMORY_BYTES_MIN {
        return Err(wrong(format!("memoryBytes is {}, and the agent needs at least {MEMORY_BYTES_MIN}", parsed.memory_bytes)));
    }
    if parsed.cpu_millis == 0 || [parsed.quiet_ms, parsed.limit_ms, parsed.scan_ms].contains(&0) {
        return Err(wrong("cpuMillis, quietMs, limitMs and scanMs must be more than 0".to_owned()));
    }
    Ok(parsed)
}

fn paths(declared: &[PodPath]) -> Result<Vec<StatePath>, String> {
    if declared.is_empty() {
        return Err("it has no paths: then there is no state to keep".to_owned());
    }
    let mut paths = Vec::new();
    for PodPath { label, path, include, exclude, read_only } in declared {
        if !is_label(label.as_bytes()) {
            return Err(format!("{label:?} is not a label: use 1 to 63 of a-z, 0-9 and '-'"));
        }
        let made = Path::new(path);
        if !made.is_absolute() || made == Path::new("/") {
            return Err(format!("path {path:?} of {label} is not an absolute path of a directory that can be state"));
        }
        let filter = Filter::new(include, exclude).map_err(|error| format!("path {label}: {error}"))?;
        paths.push(StatePath {
            label: label.clone(),
            path: made.to_owned(),
            include: include.clone(),
            exclude: exclude.clone(),
            filter,
            read_only: *read_only,
        });
    }
    paths.sort_by(|one, two| one.label.cmp(&two.label));
    for (i, one) in paths.iter().enumerate() {
        if let Some(other) = paths.iter().skip(i + 1).find(|other| other.label == one.label) {
            return Err(format!("two paths are called {}", other.label));
        }
        if let Some(other) = paths.iter().enumerate().find(|(j, other)| *j != i && other.path.starts_with(&one.path)) {
            return Err(format!("path {} lies inside {}: name the outer one only", other.1.path.display(), one.path.display()));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"version":1,"paths":[{"label":"logs","path":"/logs","readOnly":true},{"label":"data","path":"/data","exclude":["*.tmp"]}],
        "settleMs":200,"quietMs":1000,"limitMs":10000,"scanMs":60000,"restore":"IfEmpty","cleanOnly":true,"specialFiles":false,
        "onDivergence":"PreferStore","startAlone":true,"cpuMillis":500,"memoryBytes":67108864,"scratchBytes":1073741824,"readBytesPerSecond":1000}"#;

    fn env(change: impl Fn(&str, &str) -> Option<String>) -> Result<Settings, SettingsError> {
        let usual = [
            (CONFIG_VARIABLE, CONFIG),
            (UID_VARIABLE, "0d9b"),
            ("HOLDFAST_POD_NAME", "web-0"),
            ("HOLDFAST_NODE_NAME", "one"),
            ("HOLDFAST_GRACE_SECONDS", "30"),
            ("HOLDFAST_COORDINATOR", "https://coordinator:7420"),
            ("HOLDFAST_CA_FILE", "/ca/ca.crt"),
            ("HOLDFAST_TOKEN_FILE", "/token"),
            ("HOLDFAST_SCRATCH", "/scratch"),
        ];
        Settings::new(|name| {
            let (name, value) = usual.iter().find(|(known, _)| *known == name)?;
            change(name, value).map(OsString::from)
        })
    }

    const AS_CONFIGURED: Offer = Offer { take_over: false, start: Start::AsConfigured };

    #[test]
    fn what_the_policy_says_is_what_the_agent_is_told() {
        let settings = env(|_, value| Some(value.to_owned())).expect("understood");
        assert_eq!(settings.holder, "pod web-0 on one");
        let agent = settings.agent("statefulset/web/0", OwnerId::new([1; 16]), AS_CONFIGURED);
        assert_eq!(
            agent.paths.iter().map(|path| (&*path.label, path.read_only)).collect::<Vec<_>>(),
            [("data", false), ("logs", true)]
        );
        assert_eq!(agent.paths[0].exclude, ["*.tmp"]);
        assert_eq!(agent.paces, Paces::default());
        assert_eq!((agent.choices.on_divergence, agent.choices.place), (Prefer::Store, agent.holder_key));
        assert_eq!(agent.budget, Budget { cpu_millis: Some(500), read_bytes_per_second: Some(1000) });
        assert_eq!((agent.takeover, agent.scratch_bytes), (Takeover::Polite(agent.holder_key), 1 << 30));
        let told = |take_over, start| settings.agent("x", OwnerId::new([1; 16]), Offer { take_over, start });
        assert_eq!(told(true, Start::AsConfigured).takeover, Takeover::SameOwner);
        let fresh = told(false, Start::Fresh);
        assert!(fresh.choices.fresh && fresh.choices.adopt_disk && fresh.takeover == Takeover::Anybody);
        assert!(!told(false, Start::AdoptDisk).choices.fresh);
    }

    #[test]
    fn another_pod_is_another_holder_and_the_same_one_is_not() {
        let key = |uid: &str| {
            env(|name, value| Some(if name == UID_VARIABLE { uid } else { value }.to_owned())).expect("understood").holder_key
        };
        assert_eq!(key("one"), key("one"));
        assert_ne!(key("one"), key("two"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        let said = |variable: &str, value: Option<&str>| {
            let changed = env(|name, usual| if name == variable { value.map(str::to_owned) } else { Some(usual.to_owned()) });
            changed.expect_err("wrong").to_string()
        };
        assert_eq!(said("HOLDFAST_SCRATCH", None), "HOLDFAST_SCRATCH: it is not set");
        assert_eq!(said("HOLDFAST_CA_FILE", Some("ca")), "HOLDFAST_CA_FILE: ca is not an absolute path");
        assert!(said("HOLDFAST_GRACE_SECONDS", Some("soon")).contains("number of seconds"));
        let policy = |from: &str, to: &str| said(CONFIG_VARIABLE, Some(&CONFIG.replace(from, to)));
        assert!(policy("\"version\":1", "\"version\":9").contains("this agent reads version 1"));
        assert!(policy("\"label\":\"logs\"", "\"label\":\"data\"").contains("two paths are called data"));
        assert!(policy("\"/logs\"", "\"/data/logs\"").contains("inside /data"));
        assert!(policy("\"/logs\"", "\"logs\"").contains("absolute"));
        assert!(policy("67108864", "1000").contains("memoryBytes"));
        assert!(policy("*.tmp", "[").contains("path data"), "{}", policy("*.tmp", "["));
        assert!(policy("settleMs", "setleMs").contains("setleMs"));
    }
}
