-- What the Actions protocol needs: its runners, artifacts, caches, runner scale sets.

-- A deleted runner keeps this row too: its client must be told that it is gone.
CREATE TABLE actions_runners (
  runner_id INTEGER PRIMARY KEY REFERENCES runners (id),
  client_id BLOB NOT NULL UNIQUE,
  public_key BLOB NOT NULL,
  pss_only INTEGER NOT NULL,
  disable_update INTEGER NOT NULL,
  jit INTEGER NOT NULL,
  -- May be one that was deleted while the runner had a job.
  scale_set INTEGER,
  work_folder TEXT
) STRICT;
CREATE INDEX actions_runners_by_scale_set ON actions_runners (scale_set) WHERE scale_set IS NOT NULL;

-- Refers to nothing: an artifact whose run is purged keeps its row until its blob is deleted.
CREATE TABLE artifacts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL,
  job_id INTEGER NOT NULL,
  repository TEXT NOT NULL,
  name TEXT NOT NULL,
  mime_type TEXT,
  blob TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  size INTEGER NOT NULL DEFAULT 0,
  digest TEXT,
  is_final INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX artifacts_by_name ON artifacts (run_id, name);
CREATE INDEX artifacts_by_repository ON artifacts (repository, size);
CREATE INDEX artifacts_by_end ON artifacts (expires_at);
CREATE INDEX artifacts_unfinished ON artifacts (created_at) WHERE is_final = 0;
CREATE INDEX artifacts_by_blob ON artifacts (blob);

CREATE TABLE caches (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository TEXT NOT NULL,
  scope TEXT NOT NULL,
  trusted INTEGER NOT NULL,
  key TEXT NOT NULL,
  version TEXT NOT NULL,
  blob TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  size INTEGER NOT NULL DEFAULT 0,
  is_final INTEGER NOT NULL DEFAULT 0,
  last_used_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX caches_by_key ON caches (repository, scope, trusted, version, key);
CREATE INDEX caches_by_repository ON caches (repository, key);
CREATE INDEX caches_by_use ON caches (repository, last_used_at, id) WHERE is_final = 1;
CREATE INDEX caches_unused ON caches (last_used_at);
CREATE INDEX caches_by_blob ON caches (blob);

CREATE TABLE scale_sets (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  scope TEXT NOT NULL,
  runner_group TEXT NOT NULL,
  group_key TEXT NOT NULL,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  labels TEXT NOT NULL,
  settings TEXT NOT NULL,
  owner TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  last_message_id INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX scale_sets_by_name ON scale_sets (scope, group_key, name_key);
