// SPDX-License-Identifier: Apache-2.0
use crate::check_yaml;

/// What is said of a policy with this spec, in flow style.
fn explained(spec: &str) -> String {
    let yaml = format!("apiVersion: holdfast.dev/v1alpha1\nkind: StatePolicy\nmetadata: {{name: web}}\nspec: {spec}\n");
    let report = check_yaml(&yaml, "policy.yaml");
    let policy = report.documents.first().and_then(|document| document.policy.clone());
    super::explain(&policy.unwrap_or_else(|| panic!("{report:?}")), "web")
}

fn says(spec: &str, sentences: &[&str]) {
    let text = explained(spec);
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in\n{text}");
    }
}

#[test]
fn the_defaults_are_explained() {
    says(
        "{paths: [{label: data, path: /data, exclude: ['*.tmp']}]}",
        &[
            "data: /data, without *.tmp",
            "A lone change is captured 200ms after it happened.",
            "every 10s at the latest",
            "the last 10s of changes at most",
            "All paths are empty and the store has a state: the newest clean checkpoint is restored.",
            "it waits for a person (Diverged)",
            "No coordinator answers: it waits.",
            "Every checkpoint of the last 1h.",
            "One for each of 48 hours, the present one included.",
            "since 31 Mar 11:00     every checkpoint, about 360",
            "since 29 Mar 13:59     47 points: 31 Mar 11:59, 31 Mar 10:59, 31 Mar 09:59 …",
            "since 2 Mar 23:59      30 points: 31 Mar 11:59, 30 Mar 23:59, 29 Mar 23:59 …",
            "since 31 Mar 11:59     1 point: 31 Mar 11:59",
            "Older than 1h: 73 points in all (some are in several of these lines), the oldest of 2 Mar 23:59.",
            "At most 0.5 of a core, 64Mi of memory and 1Gi of disk space",
        ],
    );
}

#[test]
fn choices_are_explained() {
    says(
        "{paths: [{label: a, path: /a, provision: {ephemeralVolume: {size: 1Gi}}}, {label: b, path: /b}], scope: Replica, \
         snapshots: {schedule: '0 3 * * *', timeZone: Europe/Berlin}, budgets: {upload: 10MiB/s}, runAs: {user: 999}, \
         consistency: {mode: Hooks, hooks: {before: {http: {port: 80, path: /rest}}, after: {signal: {name: SIGUSR1, process: app}}}}, \
         restore: {mode: Never, take: Newest, onDivergence: PreferDisk, withoutCoordinator: SameVolume}, \
         retention: {keepEvery: [{every: 15m, for: 2d}]}}",
        &[
            "a volume of 1Gi is added where the pod has none",
            "(Europe/Berlin); the last 14 of them are kept",
            "The pod, its node or the cluster is lost",
            "a burst of 1 GiB take 1m43s",
            "asked to rest by POST http://127.0.0.1:80/rest, which may take 2s",
            "asked to go on by SIGUSR1 to app, and given 2s, after 5s at the latest",
            "Nothing is restored by itself",
            "the disk wins, and the store's state stays as a branch",
            "it goes on if the disk is the volume of the last checkpoint",
            "One for each of 192 stretches of 15m",
            "It runs as user 999",
        ],
    );
    says(
        "{paths: [{label: a, path: /a}], consistency: {mode: Freeze, when: EveryCheckpoint}, restore: {mode: Always}, preserveOwner: true}",
        &[
            "For every checkpoint, the application's processes are stopped and go on after 5s at the latest.",
            "What is captured without that rest is fuzzy.",
            "Whatever the disk holds: the newest clean checkpoint is restored over it.",
            "restores every file's owner",
        ],
    );
}
