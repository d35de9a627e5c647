//! The long poll from its request to its answer, in three stages of which only the middle one lasts.
//!
//! Opening (body, bearer, capabilities) and delivering (the store, the job message) are ordinary futures in boxes of
//! their own, which exist while they run. In between stands [`Parked`]: no request, no headers, no body.

use std::any::Any;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::PollRequest;
use tower::BoxError;

use super::open::{Begun, Parked};
use crate::App;
use crate::auth::{Origin, PresentedRunnerToken};
use crate::dispatch::{Arrival, Delivery};
use crate::problem::{ApiError, ApiResult};
use crate::routes::{self, polls};

/// Largest body: capabilities with as many labels and actions as a runner may have, and room to spare.
const BODY_LIMIT: usize = 256 * 1024;
/// A body of this size is read from anybody: it has come with the head.
const SMALL_BODY: u64 = 1024;
/// How long the body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Any + Send>>> + Send>>;

/// A long poll that is being answered.
pub(crate) struct HeldPoll {
    stage: Stage,
    id: RequestId,
}

enum Stage {
    Opening(Boxed<ApiResult<(Arc<App>, Begun)>>),
    Parked(Parked),
    Delivering(Boxed<ApiResult<Response>>),
}

impl HeldPoll {
    pub(crate) fn new<B>(app: &Arc<App>, request: Request<B>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let id = RequestId::of(request.headers());
        let opening = open(Arc::clone(app), request);
        Self { stage: Stage::Opening(Box::pin(AssertUnwindSafe(opening).catch_unwind())), id }
    }

    fn answer(&mut self, result: ApiResult<Response>) -> Response {
        let id = self.id.take();
        let mut response = result.unwrap_or_else(|error| error.of_request(&id).into_response());
        tracing::debug!(
            http.method = "POST",
            http.path = super::POLL,
            http.status = response.status().as_u16(),
            request.id = id.to_str().unwrap_or_default(),
            "request answered"
        );
        response.headers_mut().insert(RequestId::NAME, id);
        response
    }
}

impl Future for HeldPoll {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            let result = match &mut self.stage {
                Stage::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(Ok((_, Begun::Parked(parked)))) => {
                        self.stage = Stage::Parked(parked);
                        continue;
                    }
                    Ok(Ok((app, Begun::Assigned(assignment)))) => {
                        self.stage = deliver(&app, assignment.into());
                        continue;
                    }
                    Ok(Err(error)) => Err(error),
                    Err(panic) => Err(routes::fault(&*panic)),
                },
                Stage::Parked(parked) => match ready!(parked.poll_end(cx)) {
                    Ok(Some(arrival)) => {
                        let app = Arc::clone(&parked.open.app);
                        self.stage = deliver(&app, arrival);
                        continue;
                    }
                    Ok(None) => Ok(StatusCode::NO_CONTENT.into_response()),
                    Err(error) => Err(error),
                },
                Stage::Delivering(delivering) => match ready!(delivering.as_mut().poll(cx)) {
                    Ok(result) => result,
                    Err(panic) => Err(routes::fault(&*panic)),
                },
            };
            return Poll::Ready(self.answer(result));
        }
    }
}

/// Hears the request out and asks the dispatcher.
async fn open<B>(app: Arc<App>, request: Request<B>) -> ApiResult<(Arc<App>, Begun)>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let id = head.headers.get(RequestId::NAME).and_then(|id| id.to_str().ok()).filter(|id| id.len() <= 128);
    let origin = Origin::new(Cow::Borrowed(super::POLL_ROUTE), &head.extensions, id);
    let token = PresentedRunnerToken::of(&app, &head.headers, origin).await?;
    // The bytes of head and body lie in the connection's read buffer, and hyper looks for the peer's next ones while the
    // poll is parked. As long as one of these is kept, it takes another buffer for that: so they go before anything is
    // waited for, and the buffer that is left over goes round from poll to poll instead of one for each.
    drop(head);
    let is_small = body.size_hint().upper().is_some_and(|size| size <= SMALL_BODY);
    let (body, runner) = if is_small {
        (read(body).await?, token.runner(&app).await?.id)
    } else {
        // Only for those who may.
        let runner = token.runner(&app).await?.id;
        (read(body).await?, runner)
    };
    let request: PollRequest = routes::json(&body)?;
    drop(body);
    if request.timeout_seconds > 60 {
        return Err(ApiError::invalid(format!("`timeout_seconds` is {}; it must be 0 to 60", request.timeout_seconds)));
    }
    if let Some(capabilities) = request.capabilities {
        app.set_capabilities(runner, capabilities).await?;
    }
    let timeout = Duration::from_secs(u64::from(request.timeout_seconds));
    let begun = Parked::begin(&app, runner, timeout, request.auto_acquire)?;
    Ok((app, begun))
}

/// Copies the body out of its pieces.
async fn read<B>(body: B) -> ApiResult<Vec<u8>>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let all = async {
        let mut body = pin!(body);
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let error: BoxError = error.into();
                ApiError::new(StatusCode::BAD_REQUEST, kind::INVALID, format!("the body did not arrive: {error}"))
            })?;
            let Some(piece) = frame.data_ref() else { continue };
            if all.len() + piece.len() > BODY_LIMIT {
                let title = "the body is larger than this route takes";
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, title));
            }
            all.extend_from_slice(piece);
        }
        Ok(all)
    };
    let late = || ApiError::new(StatusCode::REQUEST_TIMEOUT, kind::INVALID, "the body did not arrive in time");
    tokio::time::timeout(BODY_TIMEOUT, all).await.map_err(|_| late())?
}

/// Begins the last stage. The assignment is guarded from here on, also before the stage is first polled.
fn deliver(app: &Arc<App>, arrival: Arrival) -> Stage {
    let delivery = Delivery::new(app, &arrival.assignment);
    let answer = polls::answer(Arc::clone(app), arrival, delivery);
    Stage::Delivering(Box::pin(AssertUnwindSafe(answer).catch_unwind()))
}

/// Under which id a request is answered: the caller's, copied out of the head, or one that is made up with the answer.
struct RequestId(Option<Box<str>>);

impl RequestId {
    const NAME: HeaderName = HeaderName::from_static("x-request-id");

    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(Self::NAME).and_then(|value| value.to_str().ok());
        Self(given.filter(|text| text.len() <= 128).map(Into::into))
    }

    fn take(&mut self) -> HeaderValue {
        let given = self.0.take().and_then(|text| HeaderValue::from_str(&text).ok());
        given.unwrap_or_else(routes::new_request_id)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_parked_poll_keeps_less_than_a_hundred_bytes_and_its_timer() {
        // Held once more by the connection or stream that waits for it, so that each byte counts twice or thrice.
        assert!(size_of::<super::super::Answering>() <= 96, "{}", size_of::<super::super::Answering>());
        assert!(size_of::<tokio::time::Sleep>() <= 160, "{}", size_of::<tokio::time::Sleep>());
    }
}
