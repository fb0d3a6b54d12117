// SPDX-License-Identifier: Apache-2.0
//! Says what is wrong with files before any cluster sees them: every finding at once, with its line.

mod nearest;
mod scalar;
mod schema;
mod yaml;

use crate::crds;
use crate::policy::StatePolicySpec;
use holdfast_core::policy::{Finding, Policy, Severity};
use schema::compare;
use serde::Serialize;
use serde_json::Value;
use yaml::{Node, Place};

/// What was found in one file.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub file: String,
    /// Its documents.
    pub documents: Vec<Document>,
    /// What is wrong with the file itself.
    pub findings: Vec<Located>,
}

/// What was found in one document.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// The line it begins on.
    pub line: usize,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it says one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether it is of a kind that is looked at here.
    pub ours: bool,
    /// What was found.
    pub findings: Vec<Located>,
    /// What it says, if it is a policy that can be used.
    #[serde(skip)]
    pub policy: Option<Policy>,
}

/// A finding and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// `error` or `warning`.
    pub severity: &'static str,
    /// The field; empty: the whole.
    pub field: String,
    /// What to write instead.
    pub sentence: String,
}

impl Located {
    fn error(place: Place, field: &str, sentence: impl Into<String>) -> Self {
        Self::at(place, Finding::error(field, sentence))
    }

    fn at(place: Place, finding: Finding) -> Self {
        let Finding { field, severity, sentence } = finding;
        Self { line: place.line, column: place.column, severity: severity.word(), field, sentence }
    }
}

impl Report {
    /// Every finding of the file, in its order.
    pub fn findings(&self) -> impl Iterator<Item = &Located> {
        self.documents.iter().flat_map(|document| &document.findings).chain(&self.findings)
    }

    /// How many findings are errors, and how many warnings.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.findings().filter(|finding| finding.severity == Severity::Error.word()).count();
        (errors, self.findings().count() - errors)
    }

    /// How many documents are of our kinds.
    #[must_use]
    pub fn looked_at(&self) -> usize {
        self.documents.iter().filter(|document| document.ours).count()
    }
}

/// Checks every document of a file. Documents of other groups are passed over.
#[must_use]
pub fn check_yaml(text: &str, file_name: &str) -> Report {
    let (nodes, malformed) = yaml::documents(text);
    let documents: Vec<Document> = nodes.iter().map(check_document).collect();
    let mut findings: Vec<Located> =
        malformed.into_iter().map(|malformed| Located::error(malformed.place, "", malformed.sentence)).collect();
    if findings.is_empty() && !documents.iter().any(|document| document.ours) {
        let sentence =
            "holds nothing of Holdfast's: write a document with apiVersion: holdfast.dev/v1alpha1 and kind: StatePolicy";
        findings.push(Located::error(Place { line: 1, column: 1 }, "", sentence));
    }
    Report { file: file_name.to_owned(), documents, findings }
}

fn check_document(node: &Node) -> Document {
    let text = |name: &str| node.text(name).unwrap_or_default().to_owned();
    let metadata = |name: &str| node.field("metadata").and_then(|metadata| metadata.text(name)).map(str::to_owned);
    let mut document = Document {
        line: node.place.line,
        kind: text("kind"),
        namespace: metadata("namespace"),
        name: metadata("name").unwrap_or_default(),
        ours: true,
        findings: Vec::new(),
        policy: None,
    };
    let api_version = text("apiVersion");
    let kinds = crds::KINDS;
    let is_kind = kinds.contains(&document.kind.as_str());
    if api_version.starts_with("holdfast.dev") || (is_kind && api_version.is_empty()) {
        check_ours(node, &api_version, &mut document);
    } else if is_kind {
        let sentence = format!("{api_version} has no {}: write apiVersion: {}", document.kind, crds::API_VERSION);
        document.findings.push(Located::error(node.place_of("apiVersion"), "apiVersion", sentence));
    } else {
        document.ours = false;
    }
    document.findings.sort_by_key(|finding| (finding.line, finding.column));
    document
}

fn check_ours(node: &Node, api_version: &str, document: &mut Document) {
    if api_version != crds::API_VERSION {
        let sentence = format!("is not a version that is known here: write {}", crds::API_VERSION);
        document.findings.push(Located::error(node.place_of("apiVersion"), "apiVersion", sentence));
    }
    let Some(schema) = crds::schema(&document.kind) else {
        let meant = nearest::nearest(&document.kind, crds::KINDS.iter().copied()).map(|meant| format!("did you mean {meant}?"));
        let meant = meant.unwrap_or_else(|| format!("write one of {}", crds::KINDS.join(", ")));
        document.findings.push(Located::error(node.place_of("kind"), "kind", format!("there is no such kind: {meant}")));
        return;
    };
    document.findings.extend(check_name(node, &document.name));
    let (fitting, misfits) = compare(node, &schema);
    document.findings.extend(misfits.into_iter().map(|misfit| Located::error(misfit.place, &misfit.field, misfit.sentence)));
    if document.kind == "StatePolicy"
        && let Some(mut fitting) = fitting
    {
        check_policy(node, fitting["spec"].take(), document);
    }
}

/// The name must be one that Kubernetes accepts, and short enough to be the value of a label.
fn check_name(node: &Node, name: &str) -> Option<Located> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if (1..=63).contains(&name.len()) && name.chars().all(plain) && edge(name.chars().next()) && edge(name.chars().last()) {
        return None;
    }
    let sentence = if name.is_empty() {
        "is missing: write the name by which workloads refer to it"
    } else {
        "is not a name: use 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"
    };
    Some(Located::error(node.place_of("metadata.name"), "metadata.name", sentence))
}

fn check_policy(node: &Node, spec: Value, document: &mut Document) {
    let is_whole = document.findings.is_empty();
    let spec: StatePolicySpec = match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => {
            // the schema and the types say the same: this is for what neither of them foresaw
            document.findings.push(Located::error(node.place_of("spec"), "spec", format!("can't be read: {error}")));
            return;
        }
    };
    let resolved = spec.resolve();
    let located = resolved.findings.into_iter().map(|finding| Located::at(node.place_of(&finding.field), finding));
    document.findings.extend(located);
    document.policy = resolved.policy.filter(|_| is_whole);
}

#[cfg(test)]
mod tests;
