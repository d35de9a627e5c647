//! Gets a tarball over HTTP, without any credential.

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::SourceError;

/// Most redirects that are followed.
const REDIRECTS: usize = 5;

/// Writes what is at `url` to `to`, at most `most` bytes; false if there is nothing.
pub(super) async fn download(url: &str, to: &mut (impl AsyncWrite + Unpin), most: u64) -> Result<bool, SourceError> {
    let broken = |why: String| SourceError::Failed(why);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| broken(format!("no certificate authorities: {error}")))?
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let mut uri: Uri = url.parse().map_err(|error| broken(format!("`{url}` is not a URL: {error}")))?;
    for _ in 0..=REDIRECTS {
        let request = Request::get(uri.clone())
            .header(header::USER_AGENT, concat!("startline/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| broken(error.to_string()))?;
        let answer = client.request(request).await.map_err(|error| broken(format!("{uri}: {}", chain(&error))))?;
        match answer.status() {
            StatusCode::OK => return body(answer.into_body(), to, most).await.map(|()| true),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(false),
            StatusCode::TOO_MANY_REQUESTS => return Err(SourceError::RateLimited),
            status if status.is_redirection() => {
                let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
                uri = place
                    .and_then(|place| follow(&uri, place))
                    .ok_or_else(|| broken(format!("{uri} answers {status} with a place that cannot be followed")))?;
            }
            status => return Err(broken(format!("{uri} answers {status}"))),
        }
    }
    Err(broken(format!("{url} leads on and on")))
}

async fn body(
    mut from: impl http_body::Body<Data = bytes::Bytes, Error = hyper::Error> + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    most: u64,
) -> Result<(), SourceError> {
    let mut total = 0;
    while let Some(frame) = from.frame().await {
        let frame = frame.map_err(|error| SourceError::Failed(format!("the answer breaks off: {}", chain(&error))))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        if total > most {
            return Err(SourceError::Failed(format!("the archive has more than {most} bytes")));
        }
        to.write_all(&data).await?;
    }
    to.flush().await?;
    Ok(())
}

/// Where a redirect leads: to a whole address or to a path of the same host, and never from TLS to none.
fn follow(from: &Uri, place: &str) -> Option<Uri> {
    let place: Uri = place.parse().ok()?;
    let mut parts = place.into_parts();
    if parts.scheme.is_none() {
        parts.scheme = from.scheme().cloned();
        parts.authority = from.authority().cloned();
    }
    let plain = parts.scheme.as_ref().is_some_and(|scheme| *scheme == http::uri::Scheme::HTTP);
    if plain && from.scheme() == Some(&http::uri::Scheme::HTTPS) {
        return None;
    }
    Uri::from_parts(parts).ok()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leads_from_tls_to_none() {
        let from: Uri = "https://a.example/x".parse().unwrap();
        assert_eq!(follow(&from, "/y?z=1").unwrap().to_string(), "https://a.example/y?z=1");
        assert_eq!(follow(&from, "https://b.example/y").unwrap().to_string(), "https://b.example/y");
        assert!(follow(&from, "http://b.example/y").is_none());
    }
}
