//! The objects: what the object store is asked to do, tried again where that may help.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, S3Action, UrlStyle};
use url::Url;

use super::http::{Failure, Http, Sent, refusal};
use super::{Options, Provider};
use crate::blobs::BlobId;

/// How long a signed address is good. It is used at once; clocks differ.
const SIGNED_FOR: Duration = Duration::from_mins(15);

/// The objects below one prefix of one bucket.
pub(super) struct Remote {
    pub(super) http: Http,
    bucket: Bucket,
    prefix: String,
    credentials: Provider,
    retry: ExponentialBuilder,
}

/// One object of a list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: BlobId,
    pub(super) size: u64,
    pub(super) changed_at: Option<Timestamp>,
}

impl Remote {
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let endpoint: Url =
            options.endpoint.parse().map_err(|error| format!("`{}` is not a URL ({error})", options.endpoint))?;
        // Names with dots fit no certificate as a part of the host.
        let style =
            if options.is_path_style || options.bucket.contains('.') { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, options.bucket.clone(), options.region.clone())
            .map_err(|error| format!("the bucket `{}` at {}: {error}", options.bucket, options.endpoint))?;
        let http =
            Http::new(options.patience).map_err(|error| format!("there are no certificate authorities: {error}"))?;
        let prefix = match options.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let retry = ExponentialBuilder::default()
            .with_min_delay(options.retry_delay)
            .with_max_times(options.retries)
            .with_jitter();
        Ok(Self { http, bucket, prefix, credentials: options.credentials.clone(), retry })
    }

    pub(super) fn key(&self, id: BlobId) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The object that says whose the prefix is.
    pub(super) fn owner_key(&self) -> String {
        format!("{}startline-owner", self.prefix)
    }

    fn credentials(&self) -> Result<rusty_s3::Credentials, Failure> {
        let known = (self.credentials.0)().map_err(Failure::Lasting)?;
        Ok(match known.session_token {
            Some(token) => rusty_s3::Credentials::new_with_token(known.access_key_id, known.secret_access_key, token),
            None => rusty_s3::Credentials::new(known.access_key_id, known.secret_access_key),
        })
    }

    async fn retried<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        attempt
            .retry(self.retry)
            .when(Failure::is_passing)
            .notify(|failure, after| {
                tracing::debug!(?failure, ?after, "the object store is asked again");
            })
            .await
    }

    async fn once<'a, A: S3Action<'a>>(
        &self,
        action: A,
        headers: HeaderMap,
        sent: Option<Sent>,
    ) -> Result<Response<Incoming>, Failure> {
        let (method, url) = signed(&action)?;
        self.http.send(method, &url, headers, sent).await
    }

    /// The size of an object.
    pub(super) async fn size(&self, key: &str) -> Result<u64, Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let answer = self.once(self.bucket.head_object(Some(&credentials), key), HeaderMap::new(), None).await?;
            let length =
                answer.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            length.ok_or_else(|| Failure::Lasting("it did not say how large the object is".to_owned()))
        })
        .await
    }

    /// Opens the bytes from `start` on, up to `end`; with how many of the answer are before `start`.
    pub(super) async fn open(&self, key: &str, start: u64, end: u64) -> Result<(Incoming, u64), Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let range = match end {
                u64::MAX => format!("bytes={start}-"),
                end => format!("bytes={start}-{}", end.saturating_sub(1)),
            };
            let range = HeaderValue::try_from(range).map_err(|error| Failure::Lasting(error.to_string()))?;
            let headers = HeaderMap::from_iter([(header::RANGE, range)]);
            let answer = self.once(self.bucket.get_object(Some(&credentials), key), headers, None).await?;
            let before = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { start };
            Ok((answer.into_body(), before))
        })
        .await
    }

    /// A short object's text.
    pub(super) async fn text(&self, key: &str) -> Result<String, Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let answer = self.once(self.bucket.get_object(Some(&credentials), key), HeaderMap::new(), None).await?;
            self.http.document(answer.into_body()).await
        })
        .await
    }

    /// Makes these bytes the object; `sent` gives them anew at each try.
    pub(super) async fn put<F>(&self, key: &str, sent: impl Fn() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<Sent, Failure>>,
    {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let sent = sent().await?;
            self.once(self.bucket.put_object(Some(&credentials), key), HeaderMap::new(), Some(sent)).await.map(drop)
        })
        .await
    }

    /// Makes a text the object.
    pub(super) async fn put_text(&self, key: &str, text: &str) -> Result<(), Failure> {
        self.put(key, || async { Ok(short(text)) }).await
    }

    /// Begins an upload in parts.
    pub(super) async fn begin(&self, key: &str) -> Result<String, Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let action = self.bucket.create_multipart_upload(Some(&credentials), key);
            let answer = self.once(action, HeaderMap::new(), None).await?;
            let document = self.http.document(answer.into_body()).await?;
            let begun = CreateMultipartUpload::parse_response(&document);
            begun.map(|begun| begun.upload_id().to_owned()).map_err(|_| refusal(StatusCode::OK, &document))
        })
        .await
    }

    /// Sends one part, the first is 1; answers its tag.
    pub(super) async fn put_part<F>(
        &self,
        key: &str,
        upload: &str,
        number: u16,
        sent: impl Fn() -> F,
    ) -> Result<String, Failure>
    where
        F: Future<Output = Result<Sent, Failure>>,
    {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let sent = sent().await?;
            let action = self.bucket.upload_part(Some(&credentials), key, number, upload);
            let answer = self.once(action, HeaderMap::new(), Some(sent)).await?;
            let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
            tag.map(str::to_owned).ok_or_else(|| Failure::Lasting("it gave no ETag for a part".to_owned()))
        })
        .await
    }

    /// Makes the parts the object, in this order.
    pub(super) async fn complete(&self, key: &str, upload: &str, tags: &[String]) -> Result<(), Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let tags = tags.iter().map(String::as_str);
            let action = self.bucket.complete_multipart_upload(Some(&credentials), key, upload, tags);
            let (method, url) = signed(&action)?;
            let body = action.body();
            let answer = self.http.send(method, &url, HeaderMap::new(), Some(short(&body))).await?;
            // It answers 200 before it knows.
            let document = self.http.document(answer.into_body()).await?;
            if document.contains("<Error>") { Err(refusal(StatusCode::OK, &document)) } else { Ok(()) }
        })
        .await
    }

    /// Gives an upload in parts up.
    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<(), Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let action = self.bucket.abort_multipart_upload(Some(&credentials), key, upload);
            self.once(action, HeaderMap::new(), None).await.map(drop)
        })
        .await
    }

    /// Deletes an object, which need not be there.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            self.once(self.bucket.delete_object(Some(&credentials), key), HeaderMap::new(), None).await.map(drop)
        })
        .await
    }

    /// At most 1000 of the blobs behind `after`, in the order of their ids, and where the list goes on.
    pub(super) async fn list(
        &self,
        after: Option<BlobId>,
        from: Option<String>,
    ) -> Result<(Vec<Listed>, Option<String>), Failure> {
        self.retried(|| async {
            let credentials = self.credentials()?;
            let mut action = self.bucket.list_objects_v2(Some(&credentials));
            if !self.prefix.is_empty() {
                action.with_prefix(&self.prefix);
            }
            if let Some(from) = &from {
                action.with_continuation_token(from);
            } else if let Some(after) = after {
                action.with_start_after(self.key(after));
            }
            let answer = self.once(action, HeaderMap::new(), None).await?;
            let document = self.http.document(answer.into_body()).await?;
            let page = ListObjectsV2::parse_response(&document).map_err(|_| refusal(StatusCode::OK, &document))?;
            let listed = page.contents.into_iter().filter_map(|object| {
                // What else lies there is none of ours.
                let id = object.key.strip_prefix(&self.prefix)?.parse().ok()?;
                let changed_at = object.last_modified.and_then(|time| time.parse().ok());
                Some(Listed { id, size: object.size.unwrap_or_default(), changed_at })
            });
            Ok((listed.collect(), page.next_continuation_token))
        })
        .await
    }
}

fn signed<'a, A: S3Action<'a>>(action: &A) -> Result<(Method, Url), Failure> {
    let method = A::METHOD.to_str().parse().map_err(|_| Failure::Lasting("it is no method".to_owned()))?;
    Ok((method, action.sign(SIGNED_FOR)))
}

fn short(text: &str) -> Sent {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Sent { length: bytes.len() as u64, chunks: stream::iter([Ok(bytes)]).boxed() }
}
