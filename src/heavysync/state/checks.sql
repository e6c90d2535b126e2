-- job.db, version 2: the checks of the pair. "check" is a word of SQL, so one run of heavy-check is an inspection.

-- inspection.status:  drawing -> checking -> done,  drawing | checking -> ended
--   drawing   the sample is being drawn; killed here, it is drawn anew
--   checking  the sample stands; interrupted, the next heavy-check with the same options goes on
--   ended     given up for another one; the verdicts it had reached count, and what it had begun to read is unverifiable
CREATE TABLE inspection (
  inspection     INTEGER PRIMARY KEY,
  started_at     INTEGER NOT NULL,
  finished_at    INTEGER,
  status         TEXT NOT NULL CHECK (status IN ('drawing', 'checking', 'done', 'ended')),
  meaning        TEXT NOT NULL,     -- JSON of CheckOptions.meaning()
  population     TEXT NOT NULL,     -- JSON of Population.describe(): only inspections of the same population are combined
  servers        TEXT NOT NULL,     -- JSON: whose buckets; the same names elsewhere are others
  method         TEXT NOT NULL CHECK (method IN ('objects', 'bytes')),
  seed           TEXT NOT NULL,
  listed_at      INTEGER NOT NULL,  -- when the listing that was drawn from began
  all_objects    INTEGER NOT NULL DEFAULT 0,  -- listed, before the filters of the population
  objects        INTEGER NOT NULL DEFAULT 0,  -- of the population
  bytes          INTEGER NOT NULL DEFAULT 0,
  pool           INTEGER NOT NULL DEFAULT 0,  -- what the random draws were made from: objects, or bytes by method
  sizes          TEXT NOT NULL DEFAULT '{}',  -- JSON: how many objects have sizes of so many bits
  groups         TEXT NOT NULL DEFAULT '[]',  -- JSON, see checks.Drawn: what earlier inspections had seen of the population
  known_bad      INTEGER NOT NULL DEFAULT 0,  -- objects found bad earlier, unchanged, and not in this sample
  confidence     REAL NOT NULL,
  share          REAL,              -- at most this share of the pool is bad, by this inspection alone
  history_share  REAL,              -- at most this share of the population is bad, by all of them
  CHECK ((finished_at IS NULL) = (status IN ('drawing', 'checking')))
) STRICT;

-- One row for each object of a sample, and what was found.
CREATE TABLE checked (
  inspection         INTEGER NOT NULL REFERENCES inspection (inspection),
  key                TEXT NOT NULL,
  position           REAL NOT NULL,     -- random: objects are checked in this order; a beginning without gaps is a sample, too
  hits               INTEGER NOT NULL CHECK (hits >= 0),  -- random draws that fell on it; 0: taken in rotation
  size               INTEGER NOT NULL CHECK (size >= 0),
  source_token       TEXT NOT NULL,
  destination_token  TEXT,
  verdict            TEXT CHECK (verdict IN ('ok', 'corrupt', 'missing', 'stale', 'vanished', 'unverifiable')),
  method             TEXT,              -- by which digest
  reason             TEXT,
  metadata           TEXT,              -- how the metadata differ; NULL: they do not
  bytes_read         INTEGER,
  checked_at         INTEGER,
  PRIMARY KEY (inspection, key),
  CHECK ((verdict IS NULL) = (checked_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX checked_pending ON checked (inspection, position) WHERE verdict IS NULL;
-- what is known of keys, for a page of a listing
CREATE INDEX checked_key ON checked (key, checked_at, verdict, source_token) WHERE verdict IS NOT NULL;
