-- What is old is purged: ended runs with their jobs, deleted registrations, and the beginning of the audit log.

-- How far numbering had come when the last that had one was purged. Consulted only where there is nothing else.
CREATE TABLE last_numbers (
  repository TEXT NOT NULL,
  path TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (repository, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE last_finished (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  finished INTEGER NOT NULL
) STRICT;

-- Deleting a job looks for claims of it.
CREATE INDEX claims_by_job ON claims (job_id) WHERE job_id IS NOT NULL;

-- A job refers to its runner no more: it keeps the name, and looking for jobs of a runner that is purged would read all of them.
-- Nothing in the rows changes, so the definition alone is replaced, as in version 8.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
  SET sql = replace(sql, 'runner_id INTEGER REFERENCES runners (id),', 'runner_id INTEGER,')
  WHERE type = 'table' AND name = 'jobs';
PRAGMA writable_schema = RESET;

-- The last line of the audit log that was purged, none while `sequence` is 0. The log begins behind it.
CREATE TABLE audit_begin (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_begin (id, sequence, at, hash) VALUES (1, 0, 0, zeroblob(32));
CREATE TRIGGER audit_begins_once BEFORE INSERT ON audit_begin
  BEGIN SELECT raise(ABORT, 'the audit log has one beginning'); END;
CREATE TRIGGER audit_begins_somewhere BEFORE DELETE ON audit_begin
  BEGIN SELECT raise(ABORT, 'the audit log has one beginning'); END;
-- Only forward, and only to a line that is there.
CREATE TRIGGER audit_begins_with_a_line BEFORE UPDATE ON audit_begin
  WHEN NEW.id IS NOT OLD.id OR NEW.sequence <= OLD.sequence
    OR NOT EXISTS (SELECT 1 FROM audit WHERE sequence = NEW.sequence AND at = NEW.at AND hash = NEW.hash)
  BEGIN SELECT raise(ABORT, 'the audit log begins behind one of its lines'); END;

DROP TRIGGER audit_is_not_shortened;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
  WHEN OLD.sequence > (SELECT sequence FROM audit_begin)
  BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
DROP TRIGGER audit_has_no_gaps;
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
  WHEN NEW.sequence IS NOT coalesce((SELECT max(sequence) FROM audit), (SELECT sequence FROM audit_begin)) + 1
  BEGIN SELECT raise(ABORT, 'a line of the audit log must follow the last one'); END;
