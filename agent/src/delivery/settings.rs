// SPDX-License-Identifier: Apache-2.0
//! What such a pod is told by its environment.

use crate::pod::{SettingsError, Variables};
use holdfast_core::delivery::{DIRECTORY, Delivery, Report, VARIABLE};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

/// What such a pod is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is to be written.
    pub delivery: Delivery,
    /// Where the volume is.
    pub directory: PathBuf,
    /// The coordinator's address.
    pub coordinator: String,
    /// Its certificates.
    pub authorities: PathBuf,
    /// The pod's token.
    pub token: PathBuf,
    /// Where the last word goes.
    pub termination_log: PathBuf,
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
        let delivery = understood(&env.text(VARIABLE)?).map_err(|what| SettingsError::new(VARIABLE, what))?;
        Ok(Self {
            delivery,
            directory: PathBuf::from(DIRECTORY),
            coordinator: env.text("HOLDFAST_COORDINATOR")?,
            authorities: env.path("HOLDFAST_CA_FILE")?,
            token: env.path("HOLDFAST_TOKEN_FILE")?,
            termination_log: PathBuf::from("/dev/termination-log"),
        })
    }

    /// Leaves the last word where the kubelet picks it up.
    pub(super) fn last_word(&self, report: &Report) {
        let Ok(text) = serde_json::to_vec(report) else { return };
        let written = std::fs::File::options().write(true).truncate(true).open(&self.termination_log);
        if let Err(error) = written.and_then(|mut file| file.write_all(&text)) {
            tracing::warn!(path = %self.termination_log.display(), %error, "there is no place for a last word");
        }
    }
}

fn understood(text: &str) -> Result<Delivery, String> {
    let delivery: Delivery = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if delivery.version != Delivery::VERSION {
        return Err(format!("it is of version {}, and this agent reads version {}", delivery.version, Delivery::VERSION));
    }
    // nothing is ever written outside of the volume
    let is_plain = |directory: &str| {
        let mut parts = Path::new(directory).components();
        directory.is_empty() || (matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none())
    };
    match delivery.parcels.iter().find(|parcel| !is_plain(&parcel.directory)) {
        Some(parcel) => Err(format!("{:?} is no name of a directory", parcel.directory)),
        None if delivery.parcels.is_empty() => Err("it names no state".to_owned()),
        None => Ok(delivery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_of_the_volume() {
        let said = |directory: &str| {
            let parcel = format!(r#"{{"lineage":"a","sequence":7,"directory":"{directory}"}}"#);
            understood(&format!(r#"{{"version":1,"restore":"u","owners":true,"parcels":[{parcel}]}}"#))
        };
        assert!(said("").is_ok() && said("statefulset-web-0").is_ok());
        for directory in ["/etc", "..", "a/b", "../a", "."] {
            assert!(said(directory).expect_err(directory).contains("no name of a directory"));
        }
        assert!(
            understood(r#"{"version":2,"restore":"u","owners":true,"parcels":[]}"#).expect_err("later").contains("version 2")
        );
        assert!(understood(r#"{"version":1,"restore":"u","owners":true,"parcels":[]}"#).is_err());
    }
}
