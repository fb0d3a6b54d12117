// SPDX-License-Identifier: Apache-2.0
//! What the process is told when it starts.

use super::pki::Lives;
use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;

/// Holdfast's coordinator in a Kubernetes cluster: grants lineages to pods, keeps StateRepositories, StatePolicies and StateLineages, and the
/// certificates of all of Holdfast.
#[derive(Debug, Clone, Parser)]
#[command(name = "holdfast-coordinator", version)]
pub struct Settings {
    /// The namespace that Holdfast runs in
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "holdfast-system")]
    pub namespace: String,
    /// The pod that this process runs in: it gets the label of the leader. Left out: nobody does
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Where agents and people are served, by gRPC over TLS
    #[arg(long, env = "HOLDFAST_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:7420")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served, without TLS
    #[arg(long, env = "HOLDFAST_HTTP_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,
    /// Another process leads after the leader has been silent for so long, in seconds
    #[arg(long, env = "HOLDFAST_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=300))]
    pub lease_seconds: u64,
    /// A new authority signs after it was trusted everywhere for so long, in seconds: longer than kubelets need to hand a changed ConfigMap to
    /// their pods
    #[arg(long, env = "HOLDFAST_TRUST_SECONDS", value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(20..=604_800))]
    pub trust_seconds: u64,
    /// Open StateRepositories that name no credentials with the coordinator's own identity: whoever may write one may then use it
    #[arg(long, env = "HOLDFAST_OWN_IDENTITY")]
    pub own_identity: bool,
    /// Lineages are thinned as their policies say this often, in minutes; once a day what nothing reaches is deleted, too. 0: never
    #[arg(long, env = "HOLDFAST_COLLECT_EVERY", value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub collect_every: u64,
    /// Each lineage's newest checkpoint is read back so often, in seconds: all its data is fetched from the store. 0: never
    #[arg(long, env = "HOLDFAST_VERIFY_SECONDS", value_name = "SECONDS", default_value_t = 86_400)]
    pub verify_seconds: u64,
    /// Whether the API server reaches the webhook is tried this often, in seconds. 0: never
    #[arg(long, env = "HOLDFAST_PROBE_SECONDS", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub probe_seconds: u64,
    /// When the webhook adds another image of the agent to new pods, the agents of running ones are brought to it, so many at once. 0: never
    #[arg(long, env = "HOLDFAST_UPGRADE_AT_ONCE", value_name = "AGENTS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub upgrade_at_once: u16,
    /// What is logged, as for the variable RUST_LOG
    #[arg(long, env = "HOLDFAST_LOG", value_name = "FILTER", default_value = "info,kube=warn,hyper=warn,tower=warn")]
    pub log: String,
}

impl Settings {
    pub(crate) const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    pub(crate) fn lives(&self) -> Lives {
        Lives { spread: Duration::from_secs(self.trust_seconds), ..Lives::default() }
    }

    /// How often to collect; `None`: never.
    pub(crate) fn collecting(&self) -> Option<Duration> {
        (self.collect_every > 0).then(|| Duration::from_mins(self.collect_every))
    }

    /// How often to try whether the API server reaches the webhook; `None`: never.
    pub(crate) fn probing(&self) -> Option<Duration> {
        (self.probe_seconds > 0).then(|| Duration::from_secs(self.probe_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_fit_together() {
        Settings::command().debug_assert();
        assert!(Settings::try_parse_from(["holdfast-coordinator", "--lease-seconds", "1"]).is_err());
        assert!(Settings::try_parse_from(["holdfast-coordinator", "--trust-seconds", "1"]).is_err());
        let parsed =
            |arguments: &[&str]| Settings::try_parse_from([&["holdfast-coordinator"][..], arguments].concat()).expect("settings");
        assert_eq!(parsed(&[]).lives(), Lives::default());
        assert_eq!(parsed(&["--trust-seconds", "30"]).lives().spread, Duration::from_secs(30));
    }
}
