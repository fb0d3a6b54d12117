// SPDX-License-Identifier: Apache-2.0
//! S3. The only file that names the AWS SDK.

use super::{Body, Created, Failure, Page, Range, Transport, TransportError};
use crate::name::Name;
use crate::pool::Pool;
use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Where a repository lies, and how to reach it.
#[derive(Clone, Default)]
pub struct Options {
    /// The bucket.
    pub bucket: String,
    /// What all names begin with; empty, or without a slash at either end.
    pub prefix: String,
    /// Another endpoint than Amazon's: `https://host:port`.
    pub endpoint: Option<String>,
    /// The region; the environment's or the profile's if not given, `us-east-1` if there is none.
    pub region: Option<String>,
    /// The bucket in the path instead of the host name. Default: with another endpoint, yes.
    pub path_style: Option<bool>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Access key and secret; the usual AWS chain if not given.
    pub credentials: Option<(String, String)>,
}

impl Options {
    /// The region, where it can be told without asking anybody. With an endpoint of one's own there is nobody to ask: the SDK would look for
    /// Amazon's metadata service on the network.
    fn known_region(&self) -> Option<Region> {
        let named = self.region.clone().map(Region::new);
        let elsewhere = self.endpoint.is_some() && self.profile.is_none();
        let set = |name| std::env::var(name).ok().filter(|region| !region.is_empty()).map(Region::new);
        named.or_else(|| {
            let environment = set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION"));
            elsewhere.then(|| environment.unwrap_or_else(|| Region::from_static("us-east-1")))
        })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{} at {}", self.bucket, self.prefix, self.endpoint.as_deref().unwrap_or("AWS"))
    }
}

/// No answer within these means: unavailable. An upload of 16 MiB at 1 MiB/s must fit into the last.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// A bucket, or a prefix of one.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    location: String,
    buffers: Arc<Pool>,
}

/// Bodies of at least so many bytes are received into buffers that are used again, and so many of them are kept. They are of one size, a usual
/// pack's: buffers that grow leave holes of their former sizes behind.
const POOLED_BYTES: usize = 1 << 20;
const POOLED_ROOM: usize = 6 << 20;
const POOLED: usize = 4;

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

impl S3 {
    /// A client for this place. Reads the usual AWS environment and files; asks no server anything yet.
    pub async fn new(options: Options) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some((access, secret)) = &options.credentials {
            loader = loader.credentials_provider(Credentials::new(access, secret, None, None, "options"));
        }
        if let Some(region) = options.known_region() {
            loader = loader.region(region);
        }
        let shared = loader.load().await;
        let region = options.region.clone().map(Region::new).or_else(|| shared.region().cloned());
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .region(region.unwrap_or_else(|| Region::from_static("us-east-1")))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired) // bodies are signed, see `Hashed`
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired) // what is read proves itself: it is sealed
            .force_path_style(options.path_style.unwrap_or(options.endpoint.is_some()));
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let location = format!("{options:?}");
        Self {
            client: Client::from_conf(config.build()),
            bucket: options.bucket,
            prefix: options.prefix,
            location,
            buffers: Arc::new(Pool::new(POOLED)),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    fn without_prefix<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// Creates the bucket, if this identity may: for the demo and tests.
    ///
    /// # Errors
    /// If the store refuses, other than because it exists.
    pub async fn create_bucket(&self) -> Result<(), TransportError> {
        let result = self.client.create_bucket().bucket(&self.bucket).send().await;
        match result.map_err(|error| failed("create bucket", &self.bucket, &error)) {
            Err(error) if error.message.contains("BucketAlreadyOwnedByYou") => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

/// Room made for a body before it arrives, in bytes: no more than the largest object, whatever the server announces.
const ROOM_MAX: usize = 16 << 20;

/// Bytes of a body that are handed to the connection at once: it copies what it is given, and keeps as much room for ever.
const SEGMENT_BYTES: usize = 128 << 10;

/// A body in segments, without a copy of all of it in each connection.
#[derive(Debug)]
struct Segments(Bytes);

impl http_body::Body for Segments {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let len = self.0.len().min(SEGMENT_BYTES);
        Poll::Ready((len > 0).then(|| Ok(Frame::data(self.0.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Tells the signer the body's hash, so that it isn't computed twice. Every store holds a body against the hash that was signed; a checksum header
/// beside it would say the same, and have the store compute it once more.
#[derive(Debug)]
struct Hashed(String);

impl Intercept for Hashed {
    fn name(&self) -> &'static str {
        "Hashed"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(aws_runtime::auth::PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

#[async_trait]
impl Transport for S3 {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        let request = self.client.put_object().bucket(&self.bucket).key(self.key(name.as_str()));
        let result = request
            .if_none_match("*")
            .content_length(i64::try_from(body.bytes.len()).unwrap_or(i64::MAX))
            .body(ByteStream::new(SdkBody::from_body_1_x(Segments(body.bytes.clone()))))
            .customize()
            .interceptor(Hashed(hex::encode(body.sha256)))
            .send()
            .await;
        match result {
            Ok(_) => Ok(Created::Yes),
            Err(error) if status(&error) == Some(412) => Ok(Created::Exists),
            Err(error) => Err(failed("put", name.as_str(), &error)),
        }
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        let mut request = self.client.get_object().bucket(&self.bucket).key(self.key(name.as_str()));
        if let Range::From { offset, len } = range {
            request = request.range(format!("bytes={offset}-{}", offset.saturating_add(len.saturating_sub(1))));
        }
        let lost = |message: String| TransportError {
            operation: "get",
            object: name.to_string(),
            message,
            failure: Failure::Unavailable,
        };
        let answer = request.send().await.map_err(|error| failed("get", name.as_str(), &error))?;
        let announced = answer.content_length().and_then(|len| usize::try_from(len).ok());
        let mut body = answer.body;
        let collect = async {
            let announced = announced.unwrap_or(0).min(ROOM_MAX);
            let mut bytes = if announced >= POOLED_BYTES { self.buffers.take() } else { Vec::new() };
            bytes.reserve(if announced >= POOLED_BYTES { announced.max(POOLED_ROOM) } else { announced });
            while let Some(part) = body.next().await {
                bytes.extend_from_slice(&part.map_err(|error| lost(format!("the body was cut off: {error}")))?);
            }
            Ok(bytes)
        };
        let body = tokio::time::timeout(ATTEMPT_TIMEOUT, collect).await;
        let bytes = body.map_err(|_| lost(format!("the body did not arrive within {ATTEMPT_TIMEOUT:?}")))??;
        let bytes = if bytes.capacity() >= POOLED_BYTES { self.buffers.share(bytes) } else { bytes.into() };
        if announced.is_some_and(|announced| announced != bytes.len()) {
            return Err(lost(format!("{} bytes arrived of {}", bytes.len(), announced.unwrap_or(0))));
        }
        Ok(bytes)
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        match self.client.head_object().bucket(&self.bucket).key(self.key(name.as_str())).send().await {
            Ok(answer) => Ok(Some(answer.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failed("head", name.as_str(), &error)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        let limit = limit.clamp(1, 1000);
        let mut request = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(prefix)).max_keys(limit.into());
        if let Some(after) = after {
            request = request.start_after(self.key(&begin_after(after, by_level)));
        }
        if by_level {
            request = request.delimiter("/");
        }
        let answer = request.send().await.map_err(|error| failed("list", prefix, &error))?;
        let mut page = Page::default();
        for object in answer.contents() {
            let name = object.key().and_then(|key| self.without_prefix(key)).and_then(Name::listed);
            let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            page.objects.extend(name.map(|name| (name, size)));
        }
        let prefixes = answer.common_prefixes().iter().filter_map(|common| self.without_prefix(common.prefix()?));
        page.prefixes = prefixes.map(str::to_owned).collect();
        if answer.is_truncated() == Some(true) {
            let last_key = answer.contents().last().and_then(|object| self.without_prefix(object.key()?));
            page.next = last_key.map(str::to_owned).max(page.prefixes.last().cloned());
            if page.next.is_none() {
                let message = "the listing says that it goes on, but not where".to_owned();
                return Err(TransportError {
                    operation: "list",
                    object: prefix.to_owned(),
                    message,
                    failure: Failure::Unavailable,
                });
            }
        }
        Ok(page)
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        match self.client.delete_object().bucket(&self.bucket).key(self.key(name.as_str())).send().await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(failed("delete", name.as_str(), &error)),
        }
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}

/// What a listing begins after. By level, what lies below a common prefix sorts after it, and some stores list the prefix again for it:
/// so it begins behind everything that can lie there.
fn begin_after(after: &str, by_level: bool) -> Cow<'_, str> {
    if by_level && after.ends_with('/') { Cow::Owned(format!("{after}~")) } else { Cow::Borrowed(after) }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn failed<E>(operation: &'static str, object: &str, error: &SdkError<E, HttpResponse>) -> TransportError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = status(error);
    if is_without_credentials(error) {
        let message =
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile".to_owned();
        // the service that hands them out may be just starting
        return TransportError { operation, object: object.to_owned(), message, failure: Failure::Unavailable };
    }
    let failure = match (error, status) {
        (SdkError::ConstructionFailure(_), _) => Failure::Unusable,
        // a bucket that is missing is no missing object
        (_, Some(404)) if error.code() == Some("NoSuchBucket") => Failure::Refused,
        (_, Some(404)) => Failure::NotFound,
        (_, Some(416)) => Failure::BeyondEnd,
        // 408 and 425 to 429 ask for patience; 409 is a conflict in flight, not a verdict
        (_, Some(408 | 409 | 425..=429)) => Failure::Unavailable,
        (SdkError::ServiceError(_), Some(status)) if status < 500 => Failure::Refused,
        _ => Failure::Unavailable,
    };
    let message = match (error.code(), status) {
        (Some("NoSuchBucket"), _) => "there is no such bucket: create it, or correct the URL".to_owned(),
        (Some(code), Some(status)) => format!("{status} {code}: {}", error.message().unwrap_or("no further word")),
        (None, Some(status)) => format!("the store answered {status}"),
        _ => match error {
            SdkError::TimeoutError(_) => "the store did not answer in time".to_owned(),
            other => with_causes(other),
        },
    };
    TransportError { operation, object: object.to_owned(), message, failure }
}

/// Whether the SDK looked for credentials everywhere and found none.
fn is_without_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| matches!(cause.downcast_ref::<CredentialsError>(), Some(CredentialsError::CredentialsNotLoaded(_))))
}

/// An error and what it came of, as a person reads it: conditions and Events show it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_without_its_structure() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "nobody listens");
        let error: SdkError<std::io::Error, HttpResponse> =
            SdkError::dispatch_failure(aws_smithy_runtime_api::client::result::ConnectorError::io(refused.into()));
        assert_eq!(with_causes(&error), "dispatch failure: io error: nobody listens");
    }

    #[test]
    fn a_listing_by_level_begins_behind_what_lies_below_the_last_prefix() {
        let last = "domains/0a/";
        let begin = begin_after(last, true);
        for below in ["domains/0a/keys/0", "domains/0a/lineages/ff/log/fff", "domains/0a/z-withdrawn"] {
            assert!(*begin > *below, "{below} would bring the prefix again");
        }
        assert!(*begin < *"domains/0b/");
        assert_eq!(begin_after(last, false), last, "a plain listing goes on with what lies below");
        assert_eq!(begin_after("domains/0a/keys/0", true), "domains/0a/keys/0");
    }
}
