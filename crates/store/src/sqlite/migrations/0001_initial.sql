-- Times are microseconds since 1970 in UTC. Lists and maps are JSON. Ids are never used twice.

CREATE TABLE api_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER
) STRICT;

CREATE TABLE registration_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  labels TEXT,
  runner_group TEXT NOT NULL,
  ephemeral INTEGER NOT NULL,
  max_uses INTEGER,
  uses INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;

-- A deleted runner keeps its row: jobs refer to it, and its tokens must be told that it is gone.
CREATE TABLE runners (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  labels TEXT NOT NULL,
  runner_group TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  ephemeral INTEGER NOT NULL,
  version TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX runners_by_name ON runners (name_key) WHERE deleted_at IS NULL;
CREATE INDEX runners_registered ON runners (id) WHERE deleted_at IS NULL;

CREATE TABLE runner_tokens (
  hash BLOB PRIMARY KEY,
  runner_id INTEGER NOT NULL REFERENCES runners (id),
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX runner_tokens_by_runner ON runner_tokens (runner_id);

CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  number INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'completed')),
  conclusion TEXT,
  started_at INTEGER,
  completed_at INTEGER,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  plan_id BLOB NOT NULL,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  repository TEXT NOT NULL,
  event_name TEXT NOT NULL,
  git_ref TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  sealed_secrets BLOB,
  submission TEXT NOT NULL,
  CHECK ((status = 'completed') = (conclusion IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX runs_by_number ON runs (repository, path, number);
CREATE INDEX runs_unfinished ON runs (id) WHERE conclusion IS NULL;

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  key TEXT NOT NULL,
  idx INTEGER NOT NULL,
  name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('waiting', 'queued', 'offered', 'running', 'completed')),
  conclusion TEXT,
  reason TEXT,
  labels TEXT NOT NULL,
  runner_group TEXT,
  priority INTEGER NOT NULL,
  timeout_minutes INTEGER NOT NULL,
  continue_on_error INTEGER NOT NULL,
  requeues_left INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 1,
  epoch INTEGER NOT NULL DEFAULT 0,
  runner_id INTEGER REFERENCES runners (id),
  runner_name TEXT,
  cancel_reason TEXT,
  queued_at INTEGER NOT NULL,
  started_at INTEGER,
  completed_at INTEGER,
  finished INTEGER NOT NULL DEFAULT 0,
  outputs TEXT NOT NULL DEFAULT '{}',
  steps TEXT NOT NULL DEFAULT '[]',
  annotations TEXT NOT NULL DEFAULT '[]',
  CHECK ((status = 'completed') = (conclusion IS NOT NULL)),
  CHECK ((status = 'completed') = (finished > 0))
) STRICT;
CREATE UNIQUE INDEX jobs_by_key ON jobs (run_id, key, idx);
CREATE UNIQUE INDEX jobs_by_finish ON jobs (finished) WHERE finished > 0;
CREATE INDEX jobs_unfinished ON jobs (status, id) WHERE status <> 'completed';

-- Apart from the jobs, so that a change of state does not rewrite it.
CREATE TABLE job_messages (
  job_id INTEGER PRIMARY KEY REFERENCES jobs (id),
  message TEXT NOT NULL
) STRICT;
