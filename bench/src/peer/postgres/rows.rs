//! One row a statement, one connection for everybody who works.

use tokio::time::Duration;
use tokio_postgres::Statement;

use super::{CHANNEL, Form, Link, Postgres};
use crate::generator::{Payload, Put, Queue, Take};

/// How often an empty queue is looked at, without a notification.
const POLL: Duration = Duration::from_millis(5);
/// How often with one: as often as something may have gone wrong.
const FALLBACK: Duration = Duration::from_secs(1);
const INSERT: &str = "INSERT INTO job (payload) VALUES ($1)";
/// One statement, so that the notification costs no further round trip and no further commit.
const INSERT_AND_NOTIFY: &str =
    "WITH made AS (INSERT INTO job (payload) VALUES ($1) RETURNING id) SELECT pg_notify('job', '') FROM made";
/// Ordered as the index is, so that no plan but a walk over its head is cheaper.
const CLAIM: &str = "UPDATE job SET queued = false WHERE id = \
    (SELECT id FROM job WHERE queue = 0 AND queued ORDER BY queue, id LIMIT 1 FOR UPDATE SKIP LOCKED) \
    RETURNING id, payload";
const START: &str = "UPDATE job SET started_at = now() WHERE id = $1";
const COMPLETE: &str = "DELETE FROM job WHERE id = $1";

/// The queue for who takes one row at a time.
pub(super) struct Rows<'server> {
    server: &'server Postgres,
    notify: bool,
}

impl<'server> Rows<'server> {
    pub(super) fn new(server: &'server Postgres, form: Form) -> Self {
        Self { server, notify: form == Form::Notify }
    }
}

impl Queue for Rows<'_> {
    type Producer = Producer;
    type Consumer = Consumer;

    async fn producer(&self) -> anyhow::Result<Producer> {
        let link = self.server.connect().await?;
        let insert = link.prepare(if self.notify { INSERT_AND_NOTIFY } else { INSERT }).await?;
        Ok(Producer { link, insert })
    }

    async fn consumer(&self) -> anyhow::Result<Consumer> {
        let link = self.server.connect().await?;
        if self.notify {
            link.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        }
        Ok(Consumer {
            claim: link.prepare(CLAIM).await?,
            start: link.prepare(START).await?,
            complete: link.prepare(COMPLETE).await?,
            notify: self.notify,
            link,
        })
    }
}

pub(crate) struct Producer {
    link: Link,
    insert: Statement,
}

impl Put for Producer {
    async fn put(&mut self, payload: Payload) -> anyhow::Result<()> {
        self.link.client.query(&self.insert, &[&payload.bytes()]).await?;
        Ok(())
    }
}

pub(crate) struct Consumer {
    link: Link,
    claim: Statement,
    start: Statement,
    complete: Statement,
    notify: bool,
}

impl Take for Consumer {
    type Job = i64;

    async fn take(&mut self) -> anyhow::Result<(i64, Vec<u8>)> {
        loop {
            if let Some(row) = self.link.client.query_opt(&self.claim, &[]).await? {
                return Ok((row.try_get(0)?, row.try_get(1)?));
            }
            if self.notify {
                self.link.notified(FALLBACK).await;
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    async fn finish(&mut self, job: i64) -> anyhow::Result<()> {
        self.link.client.execute(&self.start, &[&job]).await?;
        self.link.client.execute(&self.complete, &[&job]).await?;
        Ok(())
    }
}
