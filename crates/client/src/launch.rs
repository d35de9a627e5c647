//! Which commits a job's actions are, and their archives.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use startline_protocol::actions::launch::{ActionDownload, ResolveAnswer, ResolveRefusal, ResolveRequest};
use startline_protocol::token::JobToken;
use uuid::Uuid;

use crate::call::Call;
use crate::error::Error;
use crate::retry::Retry;
use crate::transport::{ResponseBody, Transport};

/// The service may have to ask mirror after mirror, each for its own time.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(300);
/// How long an archive may stay without a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// The service says itself when it is busy; what lasts longer than this fails the job.
const RETRY: Retry =
    Retry { min_delay: Duration::from_millis(250), max_delay: Duration::from_secs(8), max_times: Some(6) };

/// Asks for the actions of one job.
#[derive(Clone, Debug)]
pub struct LaunchClient {
    transport: Transport,
    url: String,
    token: JobToken,
}

/// What became of a request for actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// All of them can be had.
    All(ResolveAnswer),
    /// Some cannot be had.
    Refused(ResolveRefusal),
}

impl LaunchClient {
    /// A client for the job whose message named `endpoint`, `plan` and `job`.
    #[must_use]
    pub fn new(transport: Transport, endpoint: &str, plan: Uuid, job: Uuid, token: JobToken) -> Self {
        let url = format!("{}/actions/build/{plan}/jobs/{job}/runnerresolve/actions", endpoint.trim_end_matches('/'));
        Self { transport, url, token }
    }

    /// Which commits actions are. Transient failures are tried again for about half a minute.
    ///
    /// # Errors
    /// When there is no answer that says which of the actions cannot be had.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, Error> {
        let call = Call::post(&*self.url).bearer(self.token.expose())?.json(request)?.deadline(RESOLVE_DEADLINE);
        let answer = RETRY.run(Error::is_transient, || call.answer(&self.transport)).await?;
        let (status, body) = answer;
        let read = |error: serde_json::Error| Error::Decode { url: self.url.clone(), cause: error.to_string() };
        match status {
            StatusCode::OK => Ok(Resolved::All(serde_json::from_slice(&body).map_err(read)?)),
            _ => Ok(Resolved::Refused(serde_json::from_slice(&body).map_err(read)?)),
        }
    }

    /// Begins to download the archive of an action.
    ///
    /// # Errors
    /// When the answer is no archive.
    pub async fn download(&self, action: &ActionDownload) -> Result<Download, Error> {
        let mut call = Call::get(&*action.tar_url).deadline(SILENCE);
        let token = action.authentication.as_ref().map(|bearer| bearer.token.as_str()).unwrap_or_default();
        // The job's own token is never shown to whoever serves archives.
        if !token.is_empty() {
            let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
            let mut value = HeaderValue::from_str(&basic)
                .map_err(|_| Error::Invalid { what: "the archive's token cannot be sent".to_owned() })?;
            value.set_sensitive(true);
            call = call.header(header::AUTHORIZATION, value);
        }
        let response = RETRY.run(Error::is_transient, || call.begin(&self.transport)).await?;
        Ok(Download { url: action.tar_url.clone(), response })
    }
}

/// An archive as it comes.
#[derive(Debug)]
pub struct Download {
    url: String,
    response: Response<ResponseBody>,
}

impl Download {
    /// The next piece, or none at the end.
    ///
    /// # Errors
    /// When the connection breaks or stays silent.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.response.body_mut().frame()).await;
            let frame = frame.map_err(|_| Error::Timeout { url: self.url.clone(), after: SILENCE })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(Error::Transport { url: self.url.clone(), cause: crate::error::root_cause(&*error) });
                }
            }
        }
    }
}
