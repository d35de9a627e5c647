//! Up to a hundred rows a statement: what is asked for while a statement runs goes into the next one.
//!
//! Five connections in all: one each for inserts, claims, starts and ends, and a listener. One notification for each
//! insert wakes the one who claims, however many wait for jobs.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Duration;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::{CHANNEL, Link, Postgres};
use crate::generator::{Payload, Put, Queue, Take};

/// Most rows of a statement.
const MOST: usize = 100;
/// How often an empty queue is looked at without a notification: as often as something may have gone wrong.
const FALLBACK: Duration = Duration::from_secs(1);
const INSERT: &str = "WITH made AS (INSERT INTO job (payload) SELECT unnest($1::bytea[]) RETURNING id), \
    told AS (SELECT count(*) FROM made) SELECT pg_notify('job', '') FROM told";
const CLAIM: &str = "WITH head AS MATERIALIZED \
    (SELECT id FROM job WHERE queue = 0 AND queued ORDER BY queue, id LIMIT $1 FOR UPDATE SKIP LOCKED) \
    UPDATE job SET queued = false FROM head WHERE job.id = head.id RETURNING job.id, job.payload";
const START: &str = "UPDATE job SET started_at = now() WHERE id = ANY ($1::bigint[])";
const COMPLETE: &str = "DELETE FROM job WHERE id = ANY ($1::bigint[])";

type Job = (i64, Vec<u8>);
/// What is asked for, and where to say that it is committed, or why not.
type Asked<Question> = (Question, oneshot::Sender<Result<(), String>>);

/// The queue for who works in batches.
pub(super) struct Batch {
    inserts: mpsc::Sender<Asked<Vec<u8>>>,
    claims: mpsc::Sender<oneshot::Sender<Job>>,
    starts: mpsc::Sender<Asked<i64>>,
    ends: mpsc::Sender<Asked<i64>>,
    _tasks: JoinSet<anyhow::Result<()>>,
}

impl Batch {
    pub(super) async fn open(server: &Postgres) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let inserts = batches(&mut tasks, server.connect().await?, INSERT).await?;
        let starts = batches(&mut tasks, server.connect().await?, START).await?;
        let ends = batches(&mut tasks, server.connect().await?, COMPLETE).await?;
        let listener = server.connect().await?;
        listener.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        let news = Arc::new(Notify::new());
        let told = Arc::clone(&news);
        tasks.spawn(async move {
            let mut listener = listener;
            while listener.notices.recv().await.is_some() {
                told.notify_one();
            }
            Ok(())
        });
        let (claims, asked) = mpsc::channel(4 * MOST);
        let link = server.connect().await?;
        let statement = link.prepare(CLAIM).await?;
        tasks.spawn(claim(link, statement, asked, news));
        Ok(Self { inserts, claims, starts, ends, _tasks: tasks })
    }
}

/// One statement over an array of what was asked for; who asks is answered when it is committed.
async fn batches<Question>(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    link: Link,
    statement: &str,
) -> anyhow::Result<mpsc::Sender<Asked<Question>>>
where
    Question: ToSql + Send + Sync + 'static,
{
    let (sender, mut asked) = mpsc::channel::<Asked<Question>>(4 * MOST);
    let statement = link.prepare(statement).await?;
    tasks.spawn(async move {
        // All of it: a block takes only the fields that it names, and without the rest the connection ends.
        let link = link;
        let mut batch = Vec::with_capacity(MOST);
        while asked.recv_many(&mut batch, MOST).await > 0 {
            let (questions, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            let done = link.client.query(&statement, &[&questions]).await;
            let done = done.map(drop).map_err(|error| format!("{:#}", anyhow::Error::from(error)));
            for answer in answers {
                // Nobody may wait for it any more.
                let _ = answer.send(done.clone());
            }
        }
        Ok(())
    });
    Ok(sender)
}

/// Claims for all who wait.
async fn claim(
    link: Link,
    statement: Statement,
    mut asked: mpsc::Receiver<oneshot::Sender<Job>>,
    news: Arc<Notify>,
) -> anyhow::Result<()> {
    let mut waiting: Vec<oneshot::Sender<Job>> = Vec::new();
    loop {
        if waiting.is_empty() && asked.recv_many(&mut waiting, MOST).await == 0 {
            return Ok(());
        }
        while waiting.len() < MOST
            && let Ok(one) = asked.try_recv()
        {
            waiting.push(one);
        }
        waiting.retain(|one| !one.is_closed());
        let most = i64::try_from(waiting.len())?;
        let rows = link.client.query(&statement, &[&most]).await?;
        if rows.is_empty() {
            // Late is as good as told: look again.
            drop(tokio::time::timeout(FALLBACK, news.notified()).await);
        }
        for row in rows {
            let job: Job = (row.try_get(0)?, row.try_get(1)?);
            // One who has gone leaves a row without an owner, which the account at the end finds.
            drop(waiting.swap_remove(0).send(job));
        }
    }
}

impl Queue for Batch {
    type Producer = Producer;
    type Consumer = Consumer;

    async fn producer(&self) -> anyhow::Result<Producer> {
        Ok(Producer(self.inserts.clone()))
    }

    async fn consumer(&self) -> anyhow::Result<Consumer> {
        Ok(Consumer { claims: self.claims.clone(), starts: self.starts.clone(), ends: self.ends.clone() })
    }
}

pub(crate) struct Producer(mpsc::Sender<Asked<Vec<u8>>>);

impl Put for Producer {
    async fn put(&mut self, payload: Payload) -> anyhow::Result<()> {
        ask(&self.0, payload.bytes().to_vec()).await
    }
}

pub(crate) struct Consumer {
    claims: mpsc::Sender<oneshot::Sender<Job>>,
    starts: mpsc::Sender<Asked<i64>>,
    ends: mpsc::Sender<Asked<i64>>,
}

impl Take for Consumer {
    type Job = i64;

    async fn take(&mut self) -> anyhow::Result<Job> {
        let (sender, receiver) = oneshot::channel();
        self.claims.send(sender).await.ok().context("claims have failed")?;
        receiver.await.context("claims have failed")
    }

    async fn finish(&mut self, job: i64) -> anyhow::Result<()> {
        ask(&self.starts, job).await?;
        ask(&self.ends, job).await
    }
}

async fn ask<Question>(batches: &mpsc::Sender<Asked<Question>>, question: Question) -> anyhow::Result<()> {
    let (sender, receiver) = oneshot::channel();
    batches.send((question, sender)).await.ok().context("a batch has failed")?;
    receiver.await.context("a batch has failed")?.map_err(anyhow::Error::msg)
}
