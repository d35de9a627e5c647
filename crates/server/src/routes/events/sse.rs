//! Events as server-sent events (WHATWG HTML, section 9.2).
//!
//! An `id` without `data` moves the reader's place on and shows it nothing: sent at the beginning and with each ping, so
//! that a reader whose filter lets little through resumes near the end and not where it last saw something.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;

use super::Stream;

/// How soon a reader comes back after a cut, in milliseconds.
const RETRY: u32 = 1000;

pub(super) fn answer(stream: Stream) -> Response {
    let body = Body::from_stream(stream::unfold(Sse { stream, place: Place::Begin }, |mut sse| async move {
        let text = sse.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), sse))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that collects answers before it passes them on would make this useless.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

struct Sse {
    stream: Stream,
    place: Place,
}

enum Place {
    Begin,
    Going,
    End,
}

impl Sse {
    async fn next(&mut self) -> Option<String> {
        let stream = &mut self.stream;
        match self.place {
            Place::End => return None,
            Place::Begin => {
                self.place = Place::Going;
                return Some(format!("retry: {RETRY}\nid: {}\n\n", stream.reader.position()));
            }
            Place::Going => {}
        }
        loop {
            tokio::select! {
                biased;
                () = stream.app.drain.cancelled() => return None,
                _ = stream.recheck.tick() => {
                    if let Some(refusal) = stream.standing.refusal(&stream.app).await {
                        self.place = Place::End;
                        let problem = serde_json::to_string(refusal.problem()).unwrap_or_default();
                        return Some(format!("event: error\ndata: {problem}\n\n"));
                    }
                }
                events = stream.reader.next() => {
                    let mut text = String::new();
                    for event in events {
                        let _ = write!(text, "id: {}\ndata: {}\n\n", event.sequence(), event.text().as_str());
                    }
                    return Some(text);
                }
                _ = stream.ping.tick() => return Some(format!(": ping\nid: {}\n\n", stream.reader.position())),
            }
        }
    }
}
