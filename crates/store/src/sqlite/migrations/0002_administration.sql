-- Scopes, permissions and revocation of tokens; runner groups; secrets and variables; the audit log; trust; repeats.

-- Tokens from before there were scopes keep doing everything.
ALTER TABLE api_tokens ADD COLUMN scope TEXT NOT NULL DEFAULT 'instance';
ALTER TABLE api_tokens ADD COLUMN permissions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_tokens ADD COLUMN revoked_at INTEGER;
UPDATE api_tokens SET permissions =
  '["runners:register","runners:read","runners:write","jobs:read","jobs:write","secrets:read","secrets:write",'
  || '"variables:read","variables:write","groups:read","groups:write","tokens:read","tokens:write","audit:read",'
  || '"events:read"]';

ALTER TABLE registration_tokens ADD COLUMN scope TEXT NOT NULL DEFAULT 'instance';
ALTER TABLE registration_tokens ADD COLUMN cidr TEXT;
ALTER TABLE registration_tokens ADD COLUMN revoked_at INTEGER;

ALTER TABLE runners ADD COLUMN scope TEXT NOT NULL DEFAULT 'instance';
ALTER TABLE runners ADD COLUMN last_seen_at INTEGER;

CREATE INDEX runner_tokens_by_end ON runner_tokens (expires_at);

CREATE TABLE runner_groups (
  scope TEXT NOT NULL,
  name_key TEXT NOT NULL,
  name TEXT NOT NULL,
  policy TEXT NOT NULL,
  PRIMARY KEY (scope, name_key)
) STRICT, WITHOUT ROWID;
-- `default`, and those that were only names so far.
INSERT INTO runner_groups (scope, name_key, name, policy) VALUES ('instance', 'default', 'default', '{}');
INSERT OR IGNORE INTO runner_groups (scope, name_key, name, policy)
  SELECT 'instance', lower(runner_group), runner_group, '{}' FROM (
    SELECT runner_group FROM runners WHERE deleted_at IS NULL
    UNION SELECT runner_group FROM registration_tokens
  );

CREATE TABLE secrets (
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (scope, name)
) STRICT;

CREATE TABLE variables (
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (scope, name)
) STRICT;

CREATE TABLE audit (
  sequence INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  outcome TEXT NOT NULL,
  scope TEXT NOT NULL,
  request_id TEXT,
  address TEXT,
  details TEXT NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
  BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
-- This one also keeps INSERT OR REPLACE from writing over a line.
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
  WHEN NEW.sequence IS NOT (SELECT ifnull(max(sequence), 0) + 1 FROM audit)
  BEGIN SELECT raise(ABORT, 'a line of the audit log must follow the last one'); END;

ALTER TABLE runs ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN idempotency_key BLOB;
CREATE INDEX runs_by_idempotency_key ON runs (idempotency_key) WHERE idempotency_key IS NOT NULL;
ALTER TABLE jobs ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
