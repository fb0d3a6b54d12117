// SPDX-License-Identifier: Apache-2.0
//! The definitions of our kinds, as the API server wants them.

use crate::{StateLineage, StatePolicy, StateRepository, StateRestore, StateSnapshot};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::Value;

/// The group and version of all kinds.
pub const API_VERSION: &str = "holdfast.dev/v1alpha1";

/// Every kind.
pub const KINDS: &[&str] = &["StatePolicy", "StateRepository", "StateLineage", "StateSnapshot", "StateRestore"];

/// The definition of every kind.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions =
        vec![StatePolicy::crd(), StateRepository::crd(), StateLineage::crd(), StateSnapshot::crd(), StateRestore::crd()];
    let versions = definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions);
    let schemas = versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    schemas.for_each(refuse_nulls);
    definitions
}

/// The derive lets every optional field be null. To the API server that is a value, which rules would have to expect;
/// where null is not allowed, it is the same as no field.
fn refuse_nulls(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(refuse_nulls);
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => refuse_nulls(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refuse_nulls),
        None => {}
    }
}

/// The schema of a kind, with the fields that every object has.
#[must_use]
pub fn schema(kind: &str) -> Option<Value> {
    let definition = all().into_iter().find(|definition| definition.spec.names.kind == kind)?;
    let version = definition.spec.versions.into_iter().next()?;
    let mut schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
    for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
        schema["properties"][name] = serde_json::json!({ "type": kind });
    }
    Some(schema)
}
