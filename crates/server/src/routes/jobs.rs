//! Jobs and their logs, for people.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header};
use schemars::JsonSchema;
use serde::Deserialize;
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::permission::Permission;
use startline_protocol::runs_api::{Candidate, Explanation, JobPage, JobView, LogEvent};
use startline_protocol::scope::Scope;
use startline_protocol::state::JobStatus;
use startline_store::JobRecord;
use tokio::sync::watch;
use tokio::time::Instant;

use super::extract::{Path, Query};
use super::runs::Window;
use crate::console::{Lines, Listener};
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth, views};

/// Most log bytes in one event.
const CHUNK: usize = 64 * 1024;
/// How often the token of somebody who follows a log is looked at again.
const RECHECK: Duration = Duration::from_secs(4);

#[derive(Deserialize, JsonSchema)]
pub(super) struct Filter {
    /// Only jobs in this state: `waiting`, `queued`, `offered`, `running` or `completed`.
    status: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most so many: 1 to 500, 50 when absent.
    limit: Option<u32>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<JobPage>> {
    let status = filter
        .status
        .as_deref()
        .map(|text| {
            JobStatus::parse(text).ok_or_else(|| {
                let known: Vec<&str> = JobStatus::ALL.iter().map(|status| status.as_str()).collect();
                ApiError::invalid(format!("`{}` is no job status", text.escape_debug()))
                    .detail(format!("one of {}", known.join(", ")))
            })
        })
        .transpose()?;
    admin.need(Permission::JobsRead)?;
    let window = Window { cursor: filter.cursor, limit: filter.limit };
    let _turn = app.turn(&admin.token.scope).await?;
    let seen = |job: &JobRecord| admin.sees(&job.repository);
    let read = |before: Option<i64>, limit| app.store.jobs(status, before.map(JobId), limit);
    let (jobs, next) = window.gather(read, |job| job.id.0, seen).await?;
    let next_cursor = next.map(|id| id.to_string());
    let jobs = jobs.into_iter().map(|job| JobView { steps: Vec::new(), ..views::job(job) }).collect();
    Ok(Json(JobPage { jobs, next_cursor }))
}

/// The job, if the caller may read jobs and know of this one.
async fn find(app: &App, admin: &auth::Admin, id: JobId) -> ApiResult<JobRecord> {
    admin.need(Permission::JobsRead)?;
    let missing = || app.not_kept(format_args!("job {id}"));
    let job = app.store.job(id).await?.filter(|job| admin.sees(&job.repository)).ok_or_else(missing)?;
    // A job ends before its run, with which it goes.
    if app.is_past(job.completed_at) && app.store.run(job.run_id).await?.is_none_or(|run| app.is_past(run.completed_at))
    {
        return Err(missing());
    }
    Ok(job)
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<JobId>,
) -> ApiResult<Json<JobView>> {
    Ok(Json(views::job(find(&app, &admin, id).await?)))
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<JobId>,
) -> ApiResult<Json<Explanation>> {
    let job = find(&app, &admin, id).await?;
    let _turn = app.turn(&admin.token.scope).await?;
    let found = app.dispatch.lock().dispatcher.explain(id);
    let mut found = found.map(|found| found.candidates).unwrap_or_default();
    // Runners that serve other repositories alone are nobody's business here.
    let scopes: HashMap<RunnerId, Scope> =
        app.store.runners().await?.into_iter().map(|runner| (runner.id, runner.scope)).collect();
    found.retain(|candidate| {
        let scope = scopes.get(&candidate.runner);
        scope.is_some_and(|scope| admin.covers(scope) || scope.covers_repository(&job.repository))
    });
    // A runner that only has to come and ask is not what the job waits for.
    let able = found.iter().filter(|candidate| candidate.fits()).count();
    let candidates: Vec<Candidate> = found
        .into_iter()
        .map(|candidate| Candidate {
            runner_id: candidate.runner,
            runner_name: candidate.name,
            missing: candidate.missing.iter().map(ToString::to_string).collect(),
        })
        .collect();
    let summary = match job.status {
        JobStatus::Completed => "the job has ended".to_owned(),
        JobStatus::Running | JobStatus::Offered => {
            format!("the job is with runner {}", job.runner_name.as_deref().unwrap_or("(unknown)"))
        }
        JobStatus::Waiting => {
            format!("the job is not queued yet: {}", job.reason.as_deref().unwrap_or("it is held back"))
        }
        JobStatus::Queued if candidates.is_empty() => {
            "no runner is registered; start one with `startline runner register`".to_owned()
        }
        JobStatus::Queued if able == 0 => {
            format!("none of the {} registered runner(s) has what the job asks for", candidates.len())
        }
        JobStatus::Queued => format!("{able} runner(s) could take the job once they are free"),
    };
    let summary = match app.actions.scale_sets.explain(id) {
        Some(waits) if job.status == JobStatus::Queued => format!("{summary}; {waits}"),
        _ => summary,
    };
    Ok(Json(Explanation { status: job.status, summary, candidates }))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Follow {
    /// Go on until the job has ended.
    #[serde(default)]
    follow: bool,
    /// Where to begin, in bytes.
    #[serde(default)]
    offset: u64,
    /// Whose log; the latest attempt's when absent.
    attempt: Option<u32>,
    /// While following as `application/x-ndjson`: also lines that are not in the log yet.
    #[serde(default)]
    console: bool,
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<JobId>,
    Query(query): Query<Follow>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let job = find(&app, &admin, id).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let events = accept.contains("application/x-ndjson");
    let attempt = query.attempt.unwrap_or(job.attempt);
    let console = (query.follow && query.console && events).then(|| app.consoles.listener(id));
    let reader = Reader {
        app,
        console,
        admin,
        checked: Instant::now(),
        id,
        attempt,
        follow_attempts: query.follow,
        offset: query.offset,
        follow: query.follow,
        shown: None,
        state: Place::Begin,
    };
    let kind = if events { "application/x-ndjson" } else { "text/plain; charset=utf-8" };
    let body = Body::from_stream(stream::unfold(reader, move |mut reader| async move {
        loop {
            let event = reader.next().await?;
            if let Some(bytes) = encode(event, events) {
                return Some((Ok::<_, Infallible>(bytes), reader));
            }
        }
    }));
    Ok(([(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response())
}

fn encode(event: LogEvent, events: bool) -> Option<Bytes> {
    if events {
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        return Some(line.into());
    }
    match event {
        LogEvent::Log { text, .. } => Some(text.into()),
        LogEvent::Job { .. } | LogEvent::Console { .. } | LogEvent::End => None,
    }
}

/// Walks a job's log and state, in the order in which a viewer needs them.
struct Reader {
    app: Arc<App>,
    admin: auth::Admin,
    /// When the token was last looked at.
    checked: Instant,
    id: JobId,
    attempt: u32,
    /// Go on with a later attempt when there is one.
    follow_attempts: bool,
    offset: u64,
    follow: bool,
    /// Lines that are not in the log yet.
    console: Option<Listener>,
    /// The job as it was last sent.
    shown: Option<JobView>,
    state: Place,
}

enum Place {
    Begin,
    /// The job was read and sent; now the log, up to where it stood *before* the job was read.
    Log(u64, bool),
    Ended,
}

impl Reader {
    async fn next(&mut self) -> Option<LogEvent> {
        loop {
            if !self.may_go_on().await {
                self.state = Place::Ended;
            }
            match self.state {
                Place::Ended => return None,
                Place::Begin => {
                    if let Some(event) = self.begin().await? {
                        return Some(event);
                    }
                }
                Place::Log(until, over) if self.offset < until => {
                    let want = usize::try_from(until - self.offset).unwrap_or(CHUNK).min(CHUNK);
                    let bytes = self.app.logs.read(self.id, self.attempt, self.offset, want).await.ok()?;
                    // Whole lines only, unless the log ends without a break.
                    let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
                        Some(last) => last + 1,
                        None if bytes.len() == CHUNK => whole_characters(&bytes),
                        None if over => bytes.len(),
                        None => 0,
                    };
                    if end == 0 {
                        self.state = Place::Log(self.offset, over);
                        continue;
                    }
                    let offset = self.offset;
                    self.offset += end as u64;
                    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
                    return Some(LogEvent::Log { offset, attempt: self.attempt, text });
                }
                Place::Log(_, true) => {
                    self.state = Place::Ended;
                    return Some(LogEvent::End);
                }
                Place::Log(_, false) => match if self.follow { self.wait().await } else { Woken::Over } {
                    Woken::Over => self.state = Place::Ended,
                    Woken::Changed => self.state = Place::Begin,
                    Woken::Console(lines) if lines.attempt != self.attempt => {}
                    Woken::Console(lines) => {
                        let Lines { attempt, step_id, first_line, lines } = Arc::unwrap_or_clone(lines);
                        return Some(LogEvent::Console { attempt, step_id, first_line, lines });
                    }
                },
            }
        }
    }

    /// Reads the log's length and *then* the job: a step is reported before its lines, so the job that is read now
    /// knows every step whose lines lie below that length.
    async fn begin(&mut self) -> Option<Option<LogEvent>> {
        let mut length = self.app.logs.length(self.id, self.attempt).await.unwrap_or_default();
        let job = self.app.store.job(self.id).await.ok()??;
        let over = job.status == JobStatus::Completed;
        if over {
            // Nothing is appended any more; what came between the two reads belongs to the end.
            length = self.app.logs.length(self.id, self.attempt).await.unwrap_or_default();
        }
        let later = self.follow_attempts && job.attempt > self.attempt;
        if later && self.offset >= length {
            self.attempt = job.attempt;
            self.offset = 0;
            length = 0;
        }
        self.state = Place::Log(length, over && !(later && length > 0));
        let view = views::job(job);
        if self.shown.as_ref() == Some(&view) {
            return Some(None);
        }
        self.shown = Some(view.clone());
        Some(Some(LogEvent::Job { job: Box::new(view) }))
    }

    /// Waits for more log, a change of the run, or lines that are not in the log yet.
    async fn wait(&mut self) -> Woken {
        let Some(shown) = &self.shown else { return Woken::Over };
        let Ok(mut log) = self.app.logs.subscribe(self.id, self.attempt) else { return Woken::Over };
        let mut run = self.app.changes.subscribe(shown.run_id);
        // What changed between the last read and the subscription is seen by reading once more.
        let length = self.app.logs.length(self.id, self.attempt).await.unwrap_or_default();
        let current = self.app.store.job(self.id).await.ok().flatten().map(views::job);
        if length > self.offset && self.ends_with_line(length).await || current.as_ref() != Some(shown) {
            return Woken::Changed;
        }
        tokio::select! {
            biased;
            () = self.app.drain.cancelled() => Woken::Over,
            () = changed(&mut run) => Woken::Changed,
            _ = log.changed() => Woken::Changed,
            lines = spoken(&mut self.console) => Woken::Console(lines),
            () = tokio::time::sleep_until(self.checked + RECHECK) => Woken::Changed,
        }
    }

    /// Whether the token that opened the answer may still be used, as of a moment ago.
    async fn may_go_on(&mut self) -> bool {
        if self.checked.elapsed() < RECHECK {
            return true;
        }
        self.checked = Instant::now();
        self.admin.still_stands(&self.app).await
    }

    async fn ends_with_line(&self, length: u64) -> bool {
        let want = usize::try_from(length - self.offset).unwrap_or(CHUNK).min(CHUNK);
        let bytes = self.app.logs.read(self.id, self.attempt, self.offset, want).await.unwrap_or_default();
        bytes.contains(&b'\n')
    }
}

/// How many bytes there are without the beginning of a character at the end: text of half a character is another one.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// Why a wait is over.
enum Woken {
    /// Something has changed, or is to be looked at again.
    Changed,
    Console(Arc<Lines>),
    /// The service drains.
    Over,
}

async fn spoken(console: &mut Option<Listener>) -> Arc<Lines> {
    match console {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

async fn changed(run: &mut Option<watch::Receiver<u64>>) {
    match run {
        Some(run) => drop(run.changed().await),
        // The run is finished, so the job should be too; look again, but not without pause.
        None => tokio::time::sleep(Duration::from_millis(200)).await,
    }
}
