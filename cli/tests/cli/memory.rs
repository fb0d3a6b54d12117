// SPDX-License-Identifier: Apache-2.0
//! How the program's memory is managed is its own affair.

use crate::kit::Kit;

const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// What the program that protects was begun with, then what the protected one was.
const SHOWS: &str = r#"tr '\0' '\n' < /proc/$PPID/environ | grep ^MALLOC_ || echo none; env | grep ^MALLOC_ || echo none"#;

#[cfg(target_env = "gnu")]
#[test]
fn the_protected_program_sees_nothing_of_it() {
    let kit = Kit::new();
    let state = kit.path("state");
    std::fs::create_dir(&state).expect("a directory");
    let protects = format!("data={}", state.display());
    let run = ["run", "--lineage", "web", "--state", &protects, "--", "sh", "-c", SHOWS];
    assert_eq!(kit.run(&run).text(), format!("{VARIABLE}=262144\nnone\n"));
    // whoever has chosen is not corrected
    let chosen = kit.command(&run).env(VARIABLE, "1048576").output().expect("the program");
    assert_eq!(String::from_utf8_lossy(&chosen.stdout), format!("{VARIABLE}=1048576\n{VARIABLE}=1048576\n"));
}
