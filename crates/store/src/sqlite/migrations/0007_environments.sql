-- What a job deploys to: {"name": …, "url": …} as JSON.
ALTER TABLE jobs ADD COLUMN environment TEXT;
-- Minutes that a cancelled job may still take.
ALTER TABLE jobs ADD COLUMN cancel_timeout_minutes INTEGER NOT NULL DEFAULT 5;
