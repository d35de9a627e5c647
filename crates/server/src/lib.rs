//! The service: routes, auth, dispatch, results intake, health.
