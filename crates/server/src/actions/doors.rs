//! The one list of the protocol's routes: the router is built from it, and so is the test of who may call what.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::App;

/// Where a request may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// The method.
    pub method: Method,
    /// The path, with `{names}` in place of what differs.
    pub path: String,
}

/// Routes in the making, each of which is known by its method and path.
pub(super) struct Doors {
    list: Vec<Door>,
    router: Router<Arc<App>>,
}

macro_rules! methods {
    ($($name:ident: $method:ident),*) => {$(
        pub(super) fn $name<H, T>(self, path: &str, handler: H) -> Self
        where
            H: Handler<T, Arc<App>>,
            T: 'static,
        {
            self.at(Method::$method, path, handler, |route| route)
        }
    )*};
}

impl Doors {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), router: Router::new() }
    }

    methods!(get: GET, post: POST, put: PUT, patch: PATCH, delete: DELETE);

    /// `POST` with bodies of at most so many bytes.
    pub(super) fn post_up_to<H, T>(self, most: usize, path: &str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.at(Method::POST, path, handler, |route| route.layer(DefaultBodyLimit::max(most)))
    }

    fn at<H, T>(
        mut self,
        method: Method,
        path: &str,
        handler: H,
        dress: impl FnOnce(MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>>,
    ) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the protocol uses ordinary methods");
        self.router = self.router.route(path, dress(on(filter, handler)));
        self.list.push(Door { method, path: path.to_owned() });
        self
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        self.router = self.router.merge(other.router);
        self
    }

    /// Puts layers around the routes so far.
    pub(super) fn layered(mut self, dress: impl FnOnce(Router<Arc<App>>) -> Router<Arc<App>>) -> Self {
        self.router = dress(self.router);
        self
    }

    pub(super) fn list(self) -> Vec<Door> {
        self.list
    }

    pub(super) fn into_router(self) -> Router<Arc<App>> {
        self.router
    }
}
