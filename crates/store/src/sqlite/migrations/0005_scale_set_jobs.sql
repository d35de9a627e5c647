-- Jobs whose beginning the reader of a scale set was told, and whose end it was not. Refers to nothing: the job may be
-- purged, and the runner's registration goes with the job.
CREATE TABLE scale_set_jobs (
  scale_set INTEGER NOT NULL,
  job_id INTEGER NOT NULL,
  runner_id INTEGER NOT NULL,
  runner_name TEXT NOT NULL,
  assigned_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  PRIMARY KEY (scale_set, job_id)
) STRICT, WITHOUT ROWID;
