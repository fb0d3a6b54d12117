// SPDX-License-Identifier: Apache-2.0
//! `holdfast coordinator`, and the other commands through it: without credentials of the store, without the passphrase.

use crate::coordinator::Serving;
use crate::kit::{Kit, Ran};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;

/// Files with an authority, and with the certificate that it gave this machine, and its key.
fn certified(kit: &Kit, name: &str) -> [PathBuf; 3] {
    let key = || KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let own = key();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).and_then(|params| params.signed_by(&own, &authority)).expect("a certificate");
    let [ca, cert, secret] = ["ca", "cert", "key"].map(|part| kit.path(&format!("{name}.{part}")));
    std::fs::write(&ca, authority.pem()).expect("a file");
    std::fs::write(&cert, certificate.pem()).expect("a file");
    std::fs::write(&secret, own.serialize_pem()).expect("a file");
    [ca, cert, secret]
}

#[test]
fn a_coordinator_proves_who_it_is() {
    let kit = Kit::seeded();
    let [ca, cert, key] = certified(&kit, "own").map(|path| path.into_os_string().into_string().expect("text"));
    let [stranger, ..] = certified(&kit, "other").map(|path| path.into_os_string().into_string().expect("text"));
    let serving = Serving::with(&kit, "127.0.0.1:0", &["--tls-cert", &cert, "--tls-key", &key]);
    assert!(serving.url.starts_with("https://127.0.0.1:"), "{}", serving.url);
    let run = |trusted: &str, args: &[&str]| -> Ran {
        serving.command(&kit, args).env("HOLDFAST_CA_FILE", trusted).output().expect("the program").into()
    };
    assert_eq!(run(&ca, &["cat", "data/changed"]).text(), "after, longer\n");
    let (to, state) = (kit.path("to"), kit.path("fresh"));
    run(&ca, &["restore", to.to_str().expect("text")]).text();
    assert_eq!(std::fs::read(to.join("new")).expect("a file"), b"new\n");
    let state = format!("data={}", state.display());
    run(&ca, &["run", "--lineage", "web", "--state", &state, "--", "true"]).text();
    run(&stranger, &["lineages"]).refused(4, "certificate");
    run("", &["lineages"]).refused(2, "whom may it trust? Give --ca-file");
    run("/nowhere/ca", &["lineages"]).refused(2, "can't read /nowhere/ca");
    let plain = serving.url.replace("https://", "http://");
    let asked = serving.command(&kit, &["lineages"]).env("HOLDFAST_COORDINATOR", &plain).output();
    Ran::from(asked.expect("the program")).refused(4, "speaks TLS (https://)");
    let options = ["coordinator", "--listen", "127.0.0.1:0", "--token-file", "/nowhere/token", "--tls-cert", &cert];
    kit.run(&options).refused(2, "--tls-key");
    kit.run(&[&options[..], &["--tls-key", "/nowhere/key"]].concat()).refused(2, "can't read /nowhere/key");
}

#[test]
fn everything_works_through_a_coordinator() {
    let kit = Kit::seeded();
    let mut serving = Serving::start(&kit);
    let run = |args: &[&str]| serving.run(&kit, args);
    assert!(run(&["lineages"]).text().contains("web"));
    assert_eq!(run(&["cat", "data/changed"]).text(), "after, longer\n");
    run(&["snapshot", "create", "there"]).text();
    assert_eq!(kit.json(&["snapshot", "list"]).json()["snapshots"][0]["name"].as_str(), Some("there"));
    let to = kit.path("to");
    run(&["restore", "--snapshot", "there", to.to_str().expect("text")]).text();
    assert_eq!(std::fs::read(to.join("new")).expect("a file"), b"new\n");
    assert!(run(&["check", "--read-data"]).text().starts_with("web: sound"));

    let wrong: Ran = kit
        .bare()
        .env("HOLDFAST_TOKEN", "another token")
        .args(["lineages", "--coordinator", &serving.url])
        .output()
        .expect("it")
        .into();
    wrong.refused(5, "token");
    let none: Ran = kit.bare().args(["lineages", "--coordinator", &serving.url]).output().expect("it").into();
    none.refused(5, "token");

    let pid = rustix::process::Pid::from_child(&serving.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(serving.child.wait().expect("it ends").success(), "a good end");
    serving.run(&kit, &["lineages"]).refused(4, "can't reach the coordinator at http://127.0.0.1:");
}

#[test]
fn nothing_is_served_in_plain_text_beyond_this_machine() {
    let kit = Kit::new();
    let token = kit.path("token");
    kit.run(&["coordinator", "--listen", "0.0.0.0:0", "--token-file", token.to_str().expect("text")])
        .refused(2, "--plaintext-is-fine");
    assert!(!token.exists());
}
