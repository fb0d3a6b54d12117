// SPDX-License-Identifier: Apache-2.0
//! What becomes of a probe, by which the coordinator learns whether the API server reaches us: its word comes back as an annotation. Pure: the probe is
//! never stored, and nothing else comes of it.

use crate::ops::Ops;
use crate::pod::Decision;
use crate::raw;
use crate::reason::Skip;
use holdfast_api::labels::{PROBE, PROBED};
use serde_json::{Value, json};

/// The answer to a probe.
#[must_use]
pub fn decide(object: &Value) -> Decision {
    let Some(word) = raw::label(object, PROBE) else { return Decision::Skip(Skip::NotHandled) };
    let mut ops = Ops::new(object);
    if raw::annotation(object, PROBED) != Some(word) {
        ops.set(&["metadata", "annotations", PROBED], json!(word));
    }
    Decision::Patch(ops.finish(), Vec::new())
}
