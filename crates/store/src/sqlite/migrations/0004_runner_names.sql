-- Names of runners are one scope's business: nobody takes over, or learns of, a runner of somebody else.
DROP INDEX runners_by_name;
CREATE UNIQUE INDEX runners_by_name ON runners (scope, name_key) WHERE deleted_at IS NULL;
