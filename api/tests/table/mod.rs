// SPDX-License-Identifier: Apache-2.0
//! Changes to a plain policy with one path, and which rule each of them breaks.

use serde_json::{Value, json};

/// Changes that break nothing.
pub(crate) fn good() -> Vec<Value> {
    let path = |path: Value| json!({ "paths": [path] });
    let hooks = |before: Value| json!({"consistency": {"mode": "Hooks", "hooks": {"before": before}}});
    vec![
        json!({}),
        path(json!({"label": "a", "path": "/a"})),
        path(json!({"label": "db-1", "path": "/srv/..data/.git/x y", "include": ["*.db"], "exclude": ["cache/**", "/tmp/"]})),
        path(json!({"label": "runner", "path": "/runner/devices"})),
        json!({"paths": [{"label": "a", "path": "/data"}, {"label": "b", "path": "/data2"}]}),
        path(json!({"label": "a", "path": "/a", "provision": {"ephemeralVolume": {"size": "10Gi", "storageClassName": "fast"}}})),
        path(json!({"label": "a", "path": "/a", "provision": {"emptyDir": {"sizeLimit": "1Mi"}}})),
        path(json!({"label": "a", "path": "/a", "provision": {"emptyDir": {}}})),
        json!({"cadence": {"settle": "10s", "quiet": "10s", "limit": "10s"}}),
        json!({"cadence": {"settle": "0s", "quiet": "50ms", "limit": "1h", "scan": "24h"}}),
        json!({"cadence": {"scan": "10s"}}),
        json!({"snapshots": {"schedule": "@hourly"}}),
        json!({"snapshots": {"schedule": "*/15 8-18 * * MON-FRI", "timeZone": "America/Argentina/Buenos_Aires", "keep": 1}}),
        json!({"snapshots": {"schedule": "0 3 L * *", "timeZone": "Etc/GMT+5"}}),
        json!({"consistency": {"mode": "Freeze", "pauseBudget": "100ms"}}),
        json!({"consistency": {"pauseBudget": "1m"}}),
        hooks(json!({"http": {"port": 8080}})),
        hooks(json!({"unixSocket": {"path": "/run/app.sock", "send": "flush", "expect": "ok"}, "timeout": "4s999ms"})),
        hooks(json!({"signal": {"name": "SIGUSR1", "process": "redis-server"}, "timeout": "500ms"})),
        json!({"retention": {"keepAll": "10m"}}),
        json!({"retention": {"keepAll": "1y", "hourly": 0, "yearly": 10}}),
        json!({"retention": {"keepEvery": [{"every": "15m", "for": "2d"}, {"every": "1w", "for": "1y"}]}}),
        json!({"restore": {"mode": "Always"}}),
        json!({"restore": {"mode": "Never", "onDivergence": "PreferDisk"}}),
        json!({"scope": "Shared", "restore": {"take": "Newest", "withoutCoordinator": "SameVolume"}}),
        json!({"budgets": {"cpu": "10m", "memory": "32Mi", "scratch": "64Mi", "read": "1MiB/s", "upload": "64KiB/s"}}),
        json!({"budgets": {"cpu": "0.5", "memory": "1.5Gi", "read": "20MB/s"}}),
        json!({"runAs": {"user": 999}}),
        json!({"runAs": {"user": 999, "group": 0}, "preserveOwner": false}),
        json!({"preserveOwner": true}),
    ]
}

/// Changes that break one rule each.
pub(crate) fn bad() -> Vec<(&'static str, Value)> {
    let mut bad = paths();
    bad.extend(capture());
    bad.extend(keeping());
    bad
}

fn paths() -> Vec<(&'static str, Value)> {
    let at = |path: &str| json!({"paths": [{"label": "data", "path": path}]});
    let label = |label: &str| json!({"paths": [{"label": label, "path": "/data"}]});
    let two = |one: &str, two: &str| json!({"paths": [{"label": "a", "path": one}, {"label": "b", "path": two}]});
    let globs = |globs: Value| json!({"paths": [{"label": "data", "path": "/data", "exclude": globs}]});
    let provision = |provision: Value| json!({"paths": [{"label": "data", "path": "/data", "provision": provision}]});
    vec![
        ("paths-empty", json!({"paths": []})),
        ("path-absolute", at("data")),
        ("path-absolute", at("/")),
        ("path-absolute", at("/data/")),
        ("path-absolute", at("/data//x")),
        ("path-absolute", at("/data/../etc")),
        ("path-absolute", at("/./data")),
        ("path-absolute", at("")),
        ("path-system", at("/proc")),
        ("path-system", at("/run/app")),
        ("paths-nested", two("/data", "/data/sub")),
        ("paths-nested", two("/data/sub", "/data")),
        ("paths-nested", two("/data", "/data")),
        ("label-form", label("")),
        ("label-form", label("Data")),
        ("label-form", label("-data")),
        ("label-form", label("my_data")),
        ("label-twice", json!({"paths": [{"label": "a", "path": "/a"}, {"label": "a", "path": "/b"}]})),
        ("pattern", globs(json!(["*.tmp", "[", "ok"]))),
        ("pattern", globs(json!(["../up"]))),
        ("provision-one", provision(json!({}))),
        ("provision-one", provision(json!({"ephemeralVolume": {"size": "1Gi"}, "emptyDir": {}}))),
        ("provision-size", provision(json!({"ephemeralVolume": {"size": "10"}}))),
        ("provision-size", provision(json!({"emptyDir": {"sizeLimit": "1k"}}))),
        ("provision-shared", {
            let mut shared = provision(json!({"ephemeralVolume": {"size": "1Gi"}}));
            shared["scope"] = json!("Shared");
            shared
        }),
        ("provision-empty-dir", provision(json!({"emptyDir": {}}))),
        ("same-volume-ephemeral", {
            let mut ephemeral = provision(json!({"ephemeralVolume": {"size": "1Gi"}}));
            ephemeral["restore"] = json!({"withoutCoordinator": "SameVolume"});
            ephemeral
        }),
    ]
}

fn capture() -> Vec<(&'static str, Value)> {
    let cadence = |cadence: Value| json!({ "cadence": cadence });
    let schedule = |schedule: &str| json!({"snapshots": {"schedule": schedule}});
    let zone = |zone: &str| json!({"snapshots": {"schedule": "@daily", "timeZone": zone}});
    let hook = |before: Value| json!({"consistency": {"mode": "Hooks", "hooks": {"before": before}}});
    vec![
        ("settle-over-limit", cadence(json!({"settle": "11s"}))),
        ("quiet-over-limit", cadence(json!({"quiet": "1m"}))),
        ("quiet-short", cadence(json!({"quiet": "49ms"}))),
        ("limit-long", cadence(json!({"limit": "61m"}))),
        ("scan-range", cadence(json!({"scan": "9s"}))),
        ("scan-range", cadence(json!({"scan": "24h1s"}))),
        ("cron", schedule("every day")),
        ("cron", schedule("0 0 3 * * *")),
        ("cron", schedule("")),
        ("time-zone", zone("+02:00")),
        ("time-zone", zone("Europe Berlin")),
        ("pause-range", json!({"consistency": {"pauseBudget": "50ms"}})),
        ("pause-range", json!({"consistency": {"pauseBudget": "61s"}})),
        ("hooks-missing", json!({"consistency": {"mode": "Hooks"}})),
        ("hooks-unused", json!({"consistency": {"mode": "Freeze", "hooks": {"before": {"http": {"port": 80}}}}})),
        ("hook-one", hook(json!({}))),
        ("hook-one", hook(json!({"http": {"port": 80}, "signal": {"name": "SIGHUP", "process": "app"}}))),
        ("hook-timeout", hook(json!({"http": {"port": 80}, "timeout": "0s"}))),
        ("hook-timeout-over-pause", hook(json!({"http": {"port": 80}, "timeout": "5s"}))),
        ("hook-http-path", hook(json!({"http": {"port": 80, "path": "freeze"}}))),
        ("hook-http-path", hook(json!({"http": {"port": 80, "path": "/a b"}}))),
        ("hook-socket-path", hook(json!({"unixSocket": {"path": "app.sock", "send": "x"}}))),
        ("hook-process", hook(json!({"signal": {"name": "SIGHUP", "process": "/bin/app"}}))),
        ("hook-process", hook(json!({"signal": {"name": "SIGHUP", "process": ""}}))),
        ("every-checkpoint", json!({"consistency": {"when": "EveryCheckpoint"}})),
    ]
}

fn keeping() -> Vec<(&'static str, Value)> {
    let retention = |retention: Value| json!({ "retention": retention });
    let restore = |restore: Value| json!({ "restore": restore });
    let budgets = |budgets: Value| json!({ "budgets": budgets });
    vec![
        ("keep-all-short", retention(json!({"keepAll": "9m"}))),
        ("tier-empty", retention(json!({"keepEvery": [{"every": "1d", "for": "24h"}]}))),
        ("tier-empty", retention(json!({"keepEvery": [{"every": "1h", "for": "1d"}, {"every": "1y", "for": "52w"}]}))),
        ("tier-long", retention(json!({"keepEvery": [{"every": "1m", "for": "4d"}]}))),
        ("retention-either", retention(json!({"keepEvery": [{"every": "1h", "for": "1d"}], "daily": 7}))),
        ("always-prefers-disk", json!({"restore": {"mode": "Always", "onDivergence": "PreferDisk"}})),
        ("never-prefers-store", restore(json!({"mode": "Never", "onDivergence": "PreferStore"}))),
        ("always-shared", json!({"scope": "Shared", "restore": {"mode": "Always"}})),
        ("always-loses", restore(json!({"mode": "Always"}))),
        ("cpu-small", budgets(json!({"cpu": "9m"}))),
        ("memory-small", budgets(json!({"memory": "31Mi"}))),
        ("scratch-small", budgets(json!({"scratch": "1M"}))),
        ("read-small", budgets(json!({"read": "1MB/s"}))),
        ("upload-small", budgets(json!({"upload": "10KiB/s"}))),
        ("run-as-root", json!({"runAs": {"user": 0}})),
        ("owner-either", json!({"runAs": {"user": 999}, "preserveOwner": true})),
    ]
}

/// Changes that hold a text no quantity is read from, and how the sentence about it begins.
pub(crate) fn malformed() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"cadence": {"quiet": "1 second"}}), "is not a time"),
        (json!({"consistency": {"pauseBudget": "5"}}), "is not a time"),
        (json!({"retention": {"keepAll": "1d12h"}}), "is not an age"),
        (json!({"retention": {"keepEvery": [{"every": "60s", "for": "1d"}]}}), "is not an age"),
        (json!({"budgets": {"memory": "64MB"}}), "is not an amount of bytes"),
        (json!({"budgets": {"read": "20Mi"}}), "is not a rate"),
        (json!({"budgets": {"cpu": "half"}}), "is not an amount of processor"),
    ]
}
