//! What the service traces: each request, and each job from its submission to its end.
//!
//! A run's trace is that of the request that submitted it, and its context is kept with the submission; the ids of a
//! job's spans follow from it. So nothing is remembered for a trace between two moments of a job, and a restart breaks
//! none.

use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use jiff::Timestamp;
use startline_daemon::Clock;
use startline_daemon::trace::{Kind, Span, TraceContext, Tracer, Value};
use startline_protocol::ids::{Epoch, JobId};
use startline_protocol::job_message::{TRACEPARENT, Variable};
use startline_protocol::state::Conclusion;
use startline_protocol::token::TokenKind;
use startline_store::JobRecord;

use crate::App;
use crate::front::Route;
use crate::message::Bound;

const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// A sampled request, until its answer is there.
pub(crate) struct RequestSpan {
    tracer: Tracer,
    clock: Clock,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    start: Timestamp,
    method: Method,
    bearer: &'static str,
    is_over: bool,
}

impl RequestSpan {
    /// Begins the span of a request, which finds its context among its extensions; nothing where it is not sampled.
    pub(crate) fn begin<B>(tracer: &Tracer, clock: &Clock, request: &mut Request<B>) -> Option<Box<Self>> {
        if !tracer.is_on() {
            return None;
        }
        let given = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
        let parent: Option<TraceContext> = given.and_then(|text| text.parse().ok());
        let context = tracer.begin(parent.as_ref())?;
        request.extensions_mut().insert(context);
        Some(Box::new(Self {
            tracer: tracer.clone(),
            clock: clock.clone(),
            context,
            parent: parent.map(|parent| parent.span),
            start: clock.now(),
            method: request.method().clone(),
            bearer: bearer(request.headers()),
            is_over: false,
        }))
    }

    /// The answer is there. Without a route there is no span: it is health and metrics.
    pub(crate) fn answered(mut self, route: Option<&Route>, status: StatusCode, headers: &HeaderMap) {
        self.is_over = true;
        let Some(Route(route)) = route else { return };
        let mut attributes = vec![
            ("http.route", Value::from(route.split_once(' ').map_or(&**route, |(_, path)| path).to_owned())),
            ("http.response.status_code", i64::from(status.as_u16()).into()),
        ];
        if let Some(id) = headers.get("x-request-id").and_then(|id| id.to_str().ok()) {
            attributes.push(("startline.request.id", id.to_owned().into()));
        }
        let error = status.is_server_error().then(|| status.to_string());
        self.record(route.to_string(), attributes, error);
    }

    fn record(&self, name: String, mut attributes: Vec<(&'static str, Value)>, error: Option<String>) {
        attributes.push(("http.request.method", self.method.as_str().to_owned().into()));
        attributes.push(("startline.principal.kind", self.bearer.into()));
        self.tracer.record(Span {
            context: self.context,
            parent: self.parent,
            name: name.into(),
            kind: Kind::Server,
            start: self.start,
            end: self.clock.now(),
            attributes,
            error,
        });
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.is_over {
            self.record("unanswered".to_owned(), Vec::new(), Some("the client went away".to_owned()));
        }
    }
}

/// The kind of bearer that a request shows, whether or not it is a good one.
fn bearer(headers: &HeaderMap) -> &'static str {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((_, token)) = text.and_then(|text| text.split_once(' ')) else { return "none" };
    match TokenKind::of(token.trim()) {
        Some(TokenKind::Api) => "api",
        Some(TokenKind::Registration) => "registration",
        Some(TokenKind::Runner) => "runner",
        Some(TokenKind::Job) => "job",
        _ => "unknown",
    }
}

/// A job's place in the trace of its run.
pub(crate) struct JobTrace {
    submission: TraceContext,
    job: JobId,
}

impl JobTrace {
    /// The span of a part of the job, the same whenever it is asked for.
    fn span(&self, part: &str, epoch: Epoch) -> TraceContext {
        let seed = format!("{} {} {part} {epoch}", self.submission, self.job);
        let [a, b, c, d, e, f, g, h, ..] = startline_crypto::sha256(seed.as_bytes());
        self.submission.with_span([a, b, c, d, e, f, g, h])
    }

    fn root(&self) -> TraceContext {
        self.span("job", Epoch(0))
    }

    /// What a lease's own reports belong to.
    pub(crate) fn run(&self, epoch: Epoch) -> TraceContext {
        self.span("run", epoch)
    }
}

impl App {
    /// The trace that a job is in, if it is in one.
    pub(crate) fn job_trace(&self, job: &JobRecord) -> Option<JobTrace> {
        if !self.tracer.is_on() {
            return None;
        }
        let compiled = self.runs.get(job.run_id)?;
        let submission: TraceContext = compiled.submission.traceparent.as_deref()?.parse().ok()?;
        submission.sampled.then_some(JobTrace { submission, job: job.id })
    }

    /// The job has a runner: the assignment is written, and for a lease the job message is ready.
    pub(crate) fn trace_assigned(&self, job: &JobRecord, epoch: Epoch, at: Timestamp) {
        let Some(trace) = self.job_trace(job) else { return };
        self.part(&trace, trace.span("dispatch", epoch), "dispatch", (job.queued_at, at), job);
    }

    /// The job is leased since `start`, and its runner is about to get it.
    pub(crate) fn trace_acquired(&self, job: &JobRecord, epoch: Epoch, start: Timestamp) {
        let Some(trace) = self.job_trace(job) else { return };
        self.part(&trace, trace.span("acquire", epoch), "acquire", (start, self.clock.now()), job);
    }

    fn part(
        &self,
        trace: &JobTrace,
        context: TraceContext,
        name: &'static str,
        time: (Timestamp, Timestamp),
        job: &JobRecord,
    ) {
        self.tracer.record(Span {
            context,
            parent: Some(trace.root().span),
            name: name.into(),
            kind: Kind::Internal,
            start: time.0,
            end: time.1,
            attributes: attributes(job),
            error: None,
        });
    }

    /// The job has ended, however it did: itself, its execution, its steps.
    pub(crate) fn trace_ended(&self, job: &JobRecord) {
        let Some(trace) = self.job_trace(job) else { return };
        let end = job.completed_at.unwrap_or_else(|| self.clock.now());
        let error = (job.conclusion == Some(Conclusion::Failure))
            .then(|| job.reason.clone().unwrap_or_else(|| "the job failed".to_owned()));
        let mut known = attributes(job);
        known.push(("cicd.pipeline.task.run.result", job.conclusion.map_or("", Conclusion::as_str).into()));
        self.tracer.record(Span {
            context: trace.root(),
            parent: Some(trace.submission.span),
            name: "job".into(),
            kind: Kind::Internal,
            start: job.queued_at,
            end,
            attributes: known.clone(),
            error: error.clone(),
        });
        let Some(started) = job.started_at else { return };
        let run = trace.run(job.epoch);
        self.tracer.record(Span {
            context: run,
            parent: Some(trace.root().span),
            name: "run".into(),
            kind: Kind::Internal,
            start: started,
            end,
            attributes: known,
            error,
        });
        for step in &job.steps {
            let (Some(start), Some(end)) = (step.started_at, step.completed_at) else { continue };
            let failed = step.conclusion == Some(Conclusion::Failure);
            self.tracer.record(Span {
                context: trace.span(&format!("step {}", step.number), job.epoch),
                parent: Some(run.span),
                name: "step".into(),
                kind: Kind::Internal,
                start,
                end,
                attributes: vec![
                    ("startline.step.number", i64::from(step.number).into()),
                    ("startline.step.name", step.name.clone().into()),
                    ("startline.step.result", step.conclusion.map_or("", Conclusion::as_str).into()),
                ],
                error: failed.then(|| "the step failed".to_owned()),
            });
        }
    }

    /// Tells the job's worker which span its reports are a part of.
    pub(crate) fn hand_on_trace(&self, message: &mut Bound, job: &JobRecord, epoch: Epoch) {
        if let Some(trace) = self.job_trace(job) {
            let value = trace.run(epoch).to_string();
            message.variables.insert(TRACEPARENT.to_owned(), Variable { value, is_secret: false });
        }
    }
}

fn attributes(job: &JobRecord) -> Vec<(&'static str, Value)> {
    let mut attributes = vec![
        ("cicd.pipeline.run.id", Value::from(job.run_id.0)),
        ("cicd.pipeline.task.run.id", job.id.0.into()),
        ("cicd.pipeline.task.name", job.name.clone().into()),
        ("vcs.repository.name", job.repository.clone().into()),
        ("startline.attempt", i64::from(job.attempt).into()),
    ];
    if let Some(runner) = &job.runner_name {
        attributes.push(("cicd.worker.name", runner.clone().into()));
    }
    attributes
}
