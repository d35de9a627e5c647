//! axum as its own examples serve: a router, `axum::serve`.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use tokio::net::TcpListener;

use super::{Parking, WAKE};

pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/open", get(async |State(parking): State<Parking>| parking.open().to_string()))
        .route(WAKE, post(wake))
        .fallback(park)
        .with_state(Parking::default());
    axum::serve(listener, router).await?;
    Ok(())
}

async fn wake(State(parking): State<Parking>, body: Bytes) -> StatusCode {
    if parking.wake(body) { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn park(State(parking): State<Parking>, body: Bytes) -> (StatusCode, Bytes) {
    drop(body);
    match parking.park().await {
        Some(word) => (StatusCode::OK, word),
        None => (StatusCode::NO_CONTENT, Bytes::new()),
    }
}
