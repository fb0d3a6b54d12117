// SPDX-License-Identifier: Apache-2.0
//! The API server's questions and our answers, `AdmissionReview` of `admission.k8s.io/v1`. The object stays raw JSON.

use crate::pod::Decision;
use crate::reason::Kind as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::PatchOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The version that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";

/// A question.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    api_version: String,
    kind: String,
    request: Request,
}

/// What is asked about.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// To be repeated in the answer.
    pub uid: String,
    /// The object's kind.
    pub kind: KindName,
    /// A part of the resource, such as `status`.
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// `CREATE`, `UPDATE`, ...
    pub operation: String,
    /// The namespace: a new object doesn't always name its own.
    #[serde(default)]
    pub namespace: String,
    /// The object as it is to be.
    #[serde(default)]
    pub object: Option<Value>,
    /// The object as it was.
    #[serde(default)]
    pub old_object: Option<Value>,
}

/// A kind.
#[derive(Debug, Clone, Deserialize)]
pub struct KindName {
    /// Its group; empty for pods.
    #[serde(default)]
    pub group: String,
    /// Its name.
    pub kind: String,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is no JSON of that form.
    #[error("not an AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// It is of another version.
    #[error("a {kind} of {api_version}, not an AdmissionReview of {API_VERSION}")]
    Version {
        /// Its kind.
        kind: String,
        /// Its version.
        api_version: String,
    },
}

/// Reads a question.
///
/// # Errors
/// If it is none, or of another version.
pub fn read(body: &[u8]) -> Result<Request, ReviewError> {
    let Question { api_version, kind, request } = serde_json::from_slice(body)?;
    if api_version != API_VERSION || kind != "AdmissionReview" {
        return Err(ReviewError::Version { kind, api_version });
    }
    Ok(request)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// The longest warning that the API server passes on whole, in bytes.
const WARNING_MAX: usize = 256;

/// The answer to a question.
#[must_use]
pub fn answer(request: &Request, decision: &Decision) -> Answer {
    let mut response = Response {
        uid: request.uid.clone(),
        allowed: true,
        status: None,
        patch_type: None,
        patch: None,
        warnings: Vec::new(),
        audit_annotations: BTreeMap::from([("decision", code(decision))]),
    };
    match decision {
        Decision::Skip(_) => {}
        Decision::Patch(ops, warnings) => {
            // an empty patch is none
            response.patch = (!ops.is_empty()).then(|| encoded(ops));
            response.patch_type = response.patch.as_ref().map(|_| "JSONPatch");
            response.warnings = warnings.iter().map(|warning| shortened(format!("Holdfast: {warning}"))).collect();
        }
        Decision::Deny(refusal) => {
            response.allowed = false;
            let message = format!("Holdfast can't protect {} {}: {refusal}", request.kind.kind, shown_name(request));
            response.status = Some(Status { code: 403, reason: "Forbidden", message });
        }
    }
    Answer { api_version: API_VERSION, kind: "AdmissionReview", response }
}

/// What was decided, in one word.
#[must_use]
pub fn code(decision: &Decision) -> &'static str {
    match decision {
        Decision::Skip(skip) => skip.code(),
        Decision::Patch(ops, _) if ops.is_empty() => "Unchanged",
        Decision::Patch(..) => "Patched",
        Decision::Deny(refusal) => refusal.kind.code(),
    }
}

fn encoded(ops: &[PatchOperation]) -> String {
    // operations are JSON by their nature
    STANDARD.encode(serde_json::to_vec(ops).unwrap_or_default())
}

fn shortened(mut text: String) -> String {
    if text.len() > WARNING_MAX {
        let end = (0..=WARNING_MAX - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The object's name, or what its name will begin with.
fn shown_name(request: &Request) -> String {
    let object = request.object.as_ref();
    let field = |name| object.and_then(|object| crate::raw::text(object, &["metadata", name]));
    let name = field("name").map(str::to_owned).or_else(|| Some(format!("{}…", field("generateName")?)));
    format!("{}/{}", request.namespace, name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::{Refusal, Skip, Warning, say};
    use json_patch::jsonptr::PointerBuf;
    use json_patch::{AddOperation, PatchOperation};
    use serde_json::json;

    fn request() -> Request {
        let review = json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": {"uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "shop", "dryRun": true,
            "object": {"metadata": {"generateName": "web-7f-"}}}});
        read(review.to_string().as_bytes()).expect("a question")
    }

    /// The answer as it goes out.
    fn answered(decision: &Decision) -> Value {
        let answer = serde_json::to_value(answer(&request(), decision)).expect("JSON");
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }

    #[test]
    fn a_patch_is_sent_only_if_there_is_one() {
        let add = AddOperation { path: PointerBuf::from_tokens(["spec", "x"]), value: json!(1) };
        let warning = say(Warning::GroupUnknown, &[("container", "é".repeat(300).as_str())]);
        let response = answered(&Decision::Patch(vec![PatchOperation::Add(add)], vec![warning]));
        assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch = STANDARD.decode(response["patch"].as_str().expect("text")).expect("base64");
        assert_eq!(serde_json::from_slice::<Value>(&patch).expect("JSON"), json!([{"op": "add", "path": "/spec/x", "value": 1}]));
        let warnings = response["warnings"].as_array().expect("warned");
        assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.len() <= WARNING_MAX)));
        for decision in [Decision::Patch(Vec::new(), Vec::new()), Decision::Skip(Skip::NotLabelled)] {
            let response = answered(&decision);
            assert!(response["allowed"] == true && response.get("patch").is_none(), "{decision:?}: {response}");
            assert!(response.get("patchType").is_none(), "{decision:?}: {response}");
        }
    }

    #[test]
    fn a_refusal_names_the_object_and_carries_no_patch() {
        let refusal = say(Refusal::PolicyMissing, &[("policy", "web"), ("namespace", "shop")]);
        let response = answered(&Decision::Deny(refusal));
        assert!(response["allowed"] == false && response.get("patch").is_none());
        let message = response["status"]["message"].as_str().expect("a sentence");
        assert!(message.starts_with("Holdfast can't protect Pod shop/web-7f-…: there is no StatePolicy web"), "{message}");
    }

    #[test]
    fn other_versions_and_garbage_are_refused() {
        let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u",
            "kind": {"kind": "Pod"}, "operation": "CREATE"}});
        assert!(matches!(read(old.to_string().as_bytes()), Err(ReviewError::Version { .. })));
        for garbage in ["", "{", "[]", "null", "{\"request\": 1}", "\u{0}"] {
            assert!(matches!(read(garbage.as_bytes()), Err(ReviewError::Form(_))), "{garbage}");
        }
    }
}
