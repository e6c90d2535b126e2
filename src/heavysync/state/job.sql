-- job.db: the runs of one (source, destination) pair and the plan of ranges. One writer: the process that holds the lock.
-- Times are UTC seconds. Keys are TEXT with BINARY collation, so they sort by their UTF-8 bytes, as the stores do.

CREATE TABLE pair (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  source       TEXT NOT NULL,
  destination  TEXT NOT NULL
) STRICT;

-- run.status:  running -> done | failed | refused | stopped,  stopped -> running
--   done     everything is in sync
--   failed   finished, but some objects failed
--   refused  finished early by a guard
--   stopped  by a signal or a fatal error: goes on where it was. A killed run stays "running" and goes on as well.
CREATE TABLE run (
  run          INTEGER PRIMARY KEY,
  started_at   INTEGER NOT NULL,
  finished_at  INTEGER,
  status       TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'refused', 'stopped')),
  dry_run      INTEGER NOT NULL CHECK (dry_run IN (0, 1)),
  meaning      TEXT NOT NULL,  -- JSON of SyncOptions.meaning()
  options      TEXT NOT NULL,  -- JSON of SyncOptions.describe()
  message      TEXT NOT NULL DEFAULT '',
  totals       TEXT NOT NULL DEFAULT '{}',
  CHECK ((finished_at IS NULL) = (status IN ('running', 'stopped')))
) STRICT;
-- at most one run can be taken up again
CREATE UNIQUE INDEX run_open ON run (finished_at IS NULL) WHERE finished_at IS NULL;

-- range.phase:  planned -> copied -> deleted -> purged   (what lies between is in the range's own file)
-- The ranges tile the key space: their (lo, hi] are disjoint and leave no gap; NULL is the open end.
CREATE TABLE range (
  range                INTEGER PRIMARY KEY,
  lo                   TEXT,
  hi                   TEXT,
  phase                TEXT NOT NULL CHECK (phase IN ('planned', 'copied', 'deleted', 'purged')),
  parent               INTEGER REFERENCES range (range),  -- whose file holds the proofs until this one has a file
  to_cut               INTEGER NOT NULL DEFAULT 0 CHECK (to_cut >= 0),  -- pieces to cut it into before it is listed
  source_objects       INTEGER NOT NULL DEFAULT 0,
  source_bytes         INTEGER NOT NULL DEFAULT 0,
  destination_objects  INTEGER NOT NULL DEFAULT 0,
  destination_bytes    INTEGER NOT NULL DEFAULT 0,
  extra                INTEGER NOT NULL DEFAULT 0,
  to_copy              INTEGER NOT NULL DEFAULT 0,
  to_copy_bytes        INTEGER NOT NULL DEFAULT 0,
  copied               INTEGER NOT NULL DEFAULT 0,
  copied_bytes         INTEGER NOT NULL DEFAULT 0,
  proven               INTEGER NOT NULL DEFAULT 0,
  skipped              INTEGER NOT NULL DEFAULT 0,
  failed               INTEGER NOT NULL DEFAULT 0,
  deleted              INTEGER NOT NULL DEFAULT 0,
  kept                 INTEGER NOT NULL DEFAULT 0,
  delete_failed        INTEGER NOT NULL DEFAULT 0,
  purged               INTEGER NOT NULL DEFAULT 0,
  purge_failed         INTEGER NOT NULL DEFAULT 0,
  CHECK (lo IS NULL OR hi IS NULL OR lo < hi)
) STRICT;
CREATE INDEX range_phase ON range (phase, range);
