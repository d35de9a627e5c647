//! Before everything else: who comes too often is told so.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::Request;
use tower::{BoxError, Service};

use crate::App;
use crate::actions::{Dialect, translate};
use crate::auth::Origin;
use crate::front::{Answering, Front};
use crate::problem::ApiError;
use crate::routes;

/// Asked by machines that must get an answer, and cheap.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// The service with its limits.
#[derive(Clone)]
pub(crate) struct Admission {
    app: Arc<App>,
    front: Front,
}

impl Admission {
    pub(crate) fn new(app: &Arc<App>, front: Front) -> Self {
        Self { app: Arc::clone(app), front }
    }
}

impl<B> Service<Request<B>> for Admission
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Admitted;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.front, cx)
    }

    fn call(&mut self, request: Request<B>) -> Admitted {
        if !PROBES.contains(&request.uri().path()) {
            let address = Origin::address_in(request.extensions());
            if let Err(refused) = self.app.limits.admit_now(address, request.headers()) {
                self.app.metrics.limited(refused.exceeded.label());
                let id = routes::request_id_of(request.headers());
                let mut response = ApiError::from(refused).of_request(&id).into_response();
                response.headers_mut().insert(routes::REQUEST_ID, id.clone());
                if let Some(dialect) = Dialect::at(request.uri().path()) {
                    translate(dialect, &mut response);
                }
                tracing::debug!(
                    http.method = %request.method(), http.path = request.uri().path(),
                    http.status = response.status().as_u16(), request.id = id.to_str().unwrap_or_default(),
                    "request answered"
                );
                self.app.metrics.request("none".into(), response.status());
                return Admitted::Refused(Some(Box::new(response)));
            }
        }
        Admitted::Passed(self.front.call(request))
    }
}

/// The answer in the making. Each parked poll keeps one.
pub(crate) enum Admitted {
    Refused(Option<Box<Response>>),
    Passed(Answering),
}

impl Future for Admitted {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Refused(response) => Poll::Ready(Ok(*response.take().expect("a future is not polled after its end"))),
            Self::Passed(answering) => Pin::new(answering).poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_poll_keeps_nothing_of_its_admission() {
        assert!(size_of::<Admitted>() <= size_of::<Answering>() + 8, "{}", size_of::<Admitted>());
    }
}
