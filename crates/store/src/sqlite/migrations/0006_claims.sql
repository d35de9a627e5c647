-- Why a run waits or ended so.
ALTER TABLE runs ADD COLUMN reason TEXT;
-- The concurrency group that a job must have before it is queued, as JSON.
ALTER TABLE jobs ADD COLUMN claim TEXT;

-- The lines in front of concurrency groups. Whoever has the lowest id of a group has it or is about to get it.
CREATE TABLE claims (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  job_id INTEGER REFERENCES jobs (id),
  place TEXT NOT NULL,
  group_key TEXT NOT NULL,
  group_name TEXT NOT NULL,
  cancel_in_progress INTEGER NOT NULL,
  queue_max INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'granted', 'displaced', 'overtaken')),
  reason TEXT
) STRICT;
CREATE UNIQUE INDEX claims_by_place ON claims (run_id, place);
CREATE INDEX claims_by_group ON claims (group_key, id);
