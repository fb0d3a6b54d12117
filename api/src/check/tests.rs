// SPDX-License-Identifier: Apache-2.0
use super::*;

/// A policy with this spec.
fn policy(spec: &str) -> String {
    let spec = spec.trim_matches('\n').replace('\n', "\n  ");
    format!("apiVersion: holdfast.dev/v1alpha1\nkind: StatePolicy\nmetadata:\n  name: web\nspec:\n  {spec}\n")
}

/// What is found in a policy with this spec, as `line field: sentence`; the spec begins on line 6.
fn found(spec: &str) -> Vec<String> {
    let report = check_yaml(&policy(spec), "policy.yaml");
    report.findings().map(|f| format!("{} {}: {}", f.line, f.field, f.sentence)).collect()
}

const PATHS: &str = "paths:\n- {label: data, path: /data}\n";

#[test]
fn a_small_policy_is_enough() {
    let report = check_yaml(&policy(PATHS), "policy.yaml");
    assert_eq!(report.counts(), (0, 0), "{report:?}");
    let policy = report.documents[0].policy.as_ref().expect("a policy");
    assert_eq!(policy.repository, "default");
    assert_eq!(policy.paces, holdfast_core::cadence::Paces::default());
    assert_eq!(policy.retention.tiers.len(), 3);
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let spec =
        "paths:\n- label: data\n  path: /data\n  excludes: [x]\n  schedule: daily\nexclude: [y]\ncadense: {}\nfrequency: 1s";
    let expected = [
        "9 spec.paths[0].excludes: there is no such field here: did you mean exclude?",
        "10 spec.paths[0].schedule: there is no such field here: write it as spec.snapshots.schedule",
        "11 spec.exclude: there is no such field here: write it as spec.paths[].exclude",
        "12 spec.cadense: there is no such field here: did you mean cadence?",
    ];
    let found = found(spec);
    assert_eq!(found[..4], expected);
    assert!(found[4].starts_with("13 spec.frequency: there is no such field here: write one of budgets, cadence, "), "{found:?}");
    assert_eq!(found.len(), 5);
}

#[test]
fn wrong_types_and_words_are_refused_in_sentences() {
    let spec = "paths:\n- {label: data, path: /data, include: '*.db'}\ncadence: {quiet: 5}\nscope: shared\npreserveOwner: 'yes'\nretention: {daily: many, weekly: -1}\nrestore:";
    let expected = [
        "7 spec.paths[0].include: is a text, but must be a list: write its entries on lines of their own, each after '- '",
        "8 spec.cadence.quiet: is a number, but must be a text: write it with its unit, or in quotes: \"5\"",
        "9 spec.scope: \"shared\" is not one of Replica, Shared: did you mean Shared?",
        "10 spec.preserveOwner: is a text, but must be true or false: write true or false without quotes",
        "11 spec.retention.daily: is a text, but must be a number: write digits without quotes instead of \"many\"",
        "11 spec.retention.weekly: is -1: write at least 0",
        "12 spec.restore: has no value: write one, or remove the field",
    ];
    assert_eq!(found(spec), expected);
}

#[test]
fn what_is_missing_or_double_is_said() {
    let found = found("paths:\n- {path: /data}\nscope: Replica\nscope: Shared");
    assert_eq!(
        found[0],
        "7 spec.paths[0].label: is missing: write it (a short name that stays when the directory moves: the state is found again by it)"
    );
    assert_eq!(found[1], "9 spec.scope: is written twice, first on line 8: keep one of them");
    assert_eq!(found.len(), 2);
}

#[test]
fn form_and_meaning_are_checked_together() {
    let spec = format!("{PATHS}cadance: {{}}\ncadence: {{quiet: 20s}}\nbudgets: {{memory: 10Mb}}\nrunAs: {{user: 0}}");
    let found = found(&spec);
    let fields: Vec<&str> = found.iter().filter_map(|found| found.split(": ").next()).collect();
    assert_eq!(fields, ["8 spec.cadance", "9 spec.cadence.quiet", "10 spec.budgets.memory", "11 spec.runAs.user"]);
}

#[test]
fn nothing_is_said_of_what_is_compared_with_nonsense() {
    let fields = |spec: &str| -> Vec<String> {
        found(&format!("{PATHS}{spec}")).iter().filter_map(|found| found.split(": ").next().map(str::to_owned)).collect()
    };
    assert_eq!(fields("cadence: {quiet: 20s, limit: soon}"), ["8 spec.cadence.limit"]);
    assert_eq!(
        fields("cadence: {quiet: soon, limit: 500ms}\nbudgets: {cpu: 1m}"),
        ["8 spec.cadence.quiet", "9 spec.budgets.cpu"]
    );
    assert_eq!(
        fields("consistency: {mode: Hooks, pauseBudget: 10}"),
        ["8 spec.consistency.hooks", "8 spec.consistency.pauseBudget"]
    );
}

#[test]
fn other_documents_are_passed_over_and_ours_are_not() {
    let check = |text: &str| {
        let report = check_yaml(text, "x.yaml");
        let found: Vec<String> = report.findings().map(|f| format!("{} {}: {}", f.line, f.field, f.sentence)).collect();
        (report.looked_at(), found)
    };
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {anything: goes}\n";
    assert_eq!(check(&format!("{other}---\n{}", policy(PATHS))), (1, vec![]));
    let (ours, found) = check(other);
    assert!(ours == 0 && found[0].contains("holds nothing of Holdfast's"), "{found:?}");
    let wrong = |line: &str| check(&policy(PATHS).replace("kind: StatePolicy", line)).1;
    assert_eq!(wrong("kind: StatePolice"), ["2 kind: there is no such kind: did you mean StatePolicy?"]);
    let old = policy(PATHS).replace("v1alpha1", "v1");
    assert_eq!(check(&old).1, ["1 apiVersion: is not a version that is known here: write holdfast.dev/v1alpha1"]);
    let foreign = policy(PATHS).replace("holdfast.dev/v1alpha1", "example.org/v1");
    assert_eq!(check(&foreign).1, ["1 apiVersion: example.org/v1 has no StatePolicy: write apiVersion: holdfast.dev/v1alpha1"]);
    let nameless = policy(PATHS).replace("  name: web", "  labels: {}");
    assert_eq!(check(&nameless).1, ["3 metadata.name: is missing: write the name by which workloads refer to it"]);
}

#[test]
fn a_file_that_is_no_yaml_is_still_checked_up_to_there() {
    let report = check_yaml(&format!("{}---\na: [\n", policy("paths: []")), "x.yaml");
    assert_eq!(report.counts(), (2, 0), "{report:?}");
}
