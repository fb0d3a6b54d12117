// SPDX-License-Identifier: Apache-2.0
//! Quantities as the API carries them: texts that the API server refuses with a sentence if they are malformed.

use crate::quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// A kind of text: what it may look like, and what to write if it doesn't.
pub(crate) trait Written {
    /// What it means.
    type Meaning;
    /// A regular expression of what `parse` understands, for the API server. It may be wider.
    const LOOKS: &'static str;
    /// What to write instead.
    const SENTENCE: &'static str;
    /// What it means, if it is understood.
    fn parse(&self) -> Option<Self::Meaning>;
}

macro_rules! written {
    ($(#[$doc:meta])* $name:ident, $meaning:ty, $parse:path, $looks:literal, $sentence:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl Written for $name {
            type Meaning = $meaning;
            const LOOKS: &'static str = $looks;
            const SENTENCE: &'static str = $sentence;
            fn parse(&self) -> Option<$meaning> {
                $parse(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let rule = format!("self.matches('{}')", Self::LOOKS);
                json_schema!({
                    "type": "string",
                    "maxLength": 32,
                    "x-kubernetes-validations": [{ "rule": rule, "message": Self::SENTENCE }],
                })
            }
        }
    };
}

written!(
    /// A time, from milliseconds to hours.
    DurationText, Duration, quantity::parse_duration,
    "^([0-9]+(ms|s|m|h))+$",
    "is not a time: write a number with ms, s, m or h, for example 500ms, 10s or 1m30s"
);
written!(
    /// An age, from minutes to years.
    AgeText, Duration, quantity::parse_age,
    "^[1-9][0-9]*(m|h|d|w|y)$",
    "is not an age: write one number with m, h, d, w or y, for example 90m, 24h, 30d or 1y"
);
written!(
    /// An amount of memory or disk.
    BytesText, u64, quantity::parse_bytes,
    "^[0-9]+([.][0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?$",
    "is not an amount of bytes: write a number with Ki, Mi, Gi or Ti, for example 64Mi or 10Gi"
);
written!(
    /// Bytes per second.
    RateText, u64, quantity::parse_rate,
    "^[0-9]+([.][0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?B/s$",
    "is not a rate: write a number with KiB/s, MiB/s or GiB/s, for example 20MiB/s"
);
written!(
    /// Processor time.
    CpuText, u32, quantity::parse_cpu,
    "^([0-9]+m|[0-9]+([.][0-9]{1,3})?)$",
    "is not an amount of processor: write cores or thousandths of one, for example 500m or 2"
);
