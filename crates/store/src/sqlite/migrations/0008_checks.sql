-- The states of runs and jobs are checked by comparison. For `IN` with a list the engine makes a table of its own, each time
-- that a statement writes a row. Nothing in the rows changes, so the definitions alone are replaced, in the way that SQLite's
-- documentation of ALTER TABLE describes for checks (7. Making Other Kinds Of Table Schema Changes).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
  SET sql = replace(
    sql,
    'status IN (''queued'', ''running'', ''completed'')',
    'status = ''queued'' OR status = ''running'' OR status = ''completed''')
  WHERE type = 'table' AND name = 'runs';
UPDATE sqlite_schema
  SET sql = replace(
    sql,
    'status IN (''waiting'', ''queued'', ''offered'', ''running'', ''completed'')',
    'status = ''waiting'' OR status = ''queued'' OR status = ''offered'' OR status = ''running'' OR status = ''completed''')
  WHERE type = 'table' AND name = 'jobs';
PRAGMA writable_schema = RESET;
