//! What stands before the router: long polls are held here, past the router's layers, because most of what an idle
//! service remembers are parked polls and each layer's future would be kept with each of them.
//!
//! The router has the route as well and answers it through the same [`HeldPoll`]; the front only takes the shorter way.

mod held;
mod open;

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::{Method, Request};
use tower::{BoxError, Service};

use crate::App;
use crate::actions::{Dialect, translate};
use crate::traces::RequestSpan;
pub(crate) use held::HeldPoll;
pub(crate) use open::{Begun, Ends, Parked};

/// The path of the long poll, and its route.
pub(crate) const POLL: &str = "/api/v1/runners/jobs/poll";
const POLL_ROUTE: &str = "POST /api/v1/runners/jobs/poll";

/// The whole service: the long poll, and the router for the rest.
#[derive(Clone)]
pub(crate) struct Front {
    app: Arc<App>,
    router: Router,
}

impl Front {
    pub(crate) fn new(app: &Arc<App>, router: Router) -> Self {
        Self { app: Arc::clone(app), router }
    }
}

impl<B> Service<Request<B>> for Front
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the router, which has nothing to wait for.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Answering {
        let span = RequestSpan::begin(&self.app.tracer, &self.app.clock, &mut request);
        let way = if request.method() == Method::POST && request.uri().path() == POLL {
            Way::Held(HeldPoll::new(&self.app, request))
        } else {
            let dialect = Dialect::at(request.uri().path());
            Way::Routed(Box::pin(Service::<Request<B>>::call(&mut self.router, request)), dialect)
        };
        Answering { app: Arc::clone(&self.app), span, way }
    }
}

/// The route of an answer as the router knows it, such as `GET /api/v1/jobs/{id}`: in the answer's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Route(pub Cow<'static, str>);

/// The answer in the making, which is counted when it is there. Small, because each parked poll keeps one.
pub(crate) struct Answering {
    app: Arc<App>,
    span: Option<Box<RequestSpan>>,
    way: Way,
}

enum Way {
    Held(HeldPoll),
    /// With the dialect in which its answer is said, if it is GitHub's protocol.
    Routed(Pin<Box<RouteFuture<Infallible>>>, Option<Dialect>),
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, route) = match &mut self.way {
            Way::Held(poll) => (ready!(Pin::new(poll).poll(cx)), Some(Route(Cow::Borrowed(POLL_ROUTE)))),
            Way::Routed(answer, dialect) => {
                let Ok(mut answer) = ready!(answer.as_mut().poll(cx));
                let route = answer.extensions_mut().remove::<Route>();
                if let Some(dialect) = dialect {
                    translate(*dialect, &mut answer);
                }
                (answer, route)
            }
        };
        if let Some(span) = self.span.take() {
            (*span).answered(route.as_ref(), answer.status(), answer.headers());
        }
        // Without one are health and metrics themselves.
        if let Some(Route(route)) = route {
            self.app.metrics.request(route, answer.status());
        }
        Poll::Ready(Ok(answer))
    }
}
