// SPDX-License-Identifier: Apache-2.0
use super::*;
use std::time::Duration;

fn policy() -> Policy {
    let path = StatePath { label: "data".into(), path: "/data".into(), include: vec![], exclude: vec![], provision: None };
    Policy {
        repository: "default".into(),
        scope: Scope::Replica,
        paths: vec![path],
        paces: Paces::default(),
        snapshots: None,
        consistency: Consistency { quiesce: Quiesce::Nothing, when: When::Snapshots, pause_budget: Duration::from_secs(5) },
        retention: Retention { keep_all: Duration::from_hours(1), tiers: vec![] },
        restore: Restore {
            mode: RestoreMode::IfEmpty,
            take: Take::Clean,
            on_divergence: Divergence::Wait,
            without_coordinator: WithoutCoordinator::Wait,
            special_files: false,
        },
        budgets: Budgets {
            cpu_millis: 500,
            memory_bytes: 64 << 20,
            scratch_bytes: 1 << 30,
            read_bytes_per_second: None,
            upload_bytes_per_second: None,
        },
        user: User::Application,
    }
}

#[test]
fn a_plain_policy_has_nothing_wrong() {
    assert_eq!(policy().check(), []);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut policy = policy();
    policy.paths[0].exclude = vec!["*.tmp".into(), "[".into()];
    policy.paths[0].path = "data".into();
    policy.paces.quiet = Duration::from_secs(20);
    policy.budgets.memory_bytes = 1;
    let findings = policy.check();
    let fields: Vec<&str> = findings.iter().map(|finding| finding.field.as_str()).collect();
    assert_eq!(fields, ["spec.paths[0].path", "spec.paths[0].exclude[1]", "spec.cadence.quiet", "spec.budgets.memory"]);
}

#[test]
fn rules_have_names_and_sentences_of_their_own() {
    for (index, rule) in rules::RULES.iter().enumerate() {
        assert!(rule.sentence.len() > 30 && !rule.sentence.ends_with('.'), "{}", rule.name);
        assert!(rule.severity == Severity::Error || rule.cel.is_empty(), "{}: CEL can't warn", rule.name);
        let twin = rules::RULES[..index].iter().find(|other| other.name == rule.name || other.sentence == rule.sentence);
        assert!(twin.is_none(), "{} is said twice", rule.name);
    }
}
