-- ranges/NNNNNN.db: all that is known about one slice (lo, hi] of the key space. One writer: the engine that works on it.
-- Keys are TEXT with BINARY collation, so they sort by their UTF-8 bytes, as the stores do.

CREATE TABLE span (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  run  INTEGER NOT NULL,   -- the run that all but the proofs belong to (records.mark_of)
  lo   TEXT,
  hi   TEXT
) STRICT;

-- Where each listing stands. cursor is the last key that pages speak for; done: up to hi.
CREATE TABLE listing (
  side     TEXT PRIMARY KEY CHECK (side IN ('source', 'destination')),
  cursor   TEXT,
  done     INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
  objects  INTEGER NOT NULL DEFAULT 0 CHECK (objects >= 0),
  bytes    INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0)
) STRICT, WITHOUT ROWID;

-- One row an object, as it was listed (objects.ObjectInfo).
CREATE TABLE source (
  key            TEXT PRIMARY KEY,
  size           INTEGER NOT NULL CHECK (size >= 0),
  etag           TEXT NOT NULL,
  md5            TEXT,
  crc32c         TEXT,
  modified_at    TEXT NOT NULL,
  version        TEXT,
  storage_class  TEXT,
  metadata       TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE destination (
  key            TEXT PRIMARY KEY,
  size           INTEGER NOT NULL CHECK (size >= 0),
  etag           TEXT NOT NULL,
  md5            TEXT,
  crc32c         TEXT,
  modified_at    TEXT NOT NULL,
  version        TEXT,
  storage_class  TEXT,
  metadata       TEXT
) STRICT, WITHOUT ROWID;

-- What has to be copied.  transfer.status:
--   pending -> claimed                        a worker has it
--   claimed -> done | skipped | failed        recorded with its outcome
--   claimed -> pending                        released: the source changed, the run stops, or it was killed (on opening)
-- reason: new       the destination has nothing there
--         changed   the contents are known to differ
--         unproven  the listings cannot tell; a closer look comes first
CREATE TABLE transfer (
  key       TEXT PRIMARY KEY,
  scatter   INTEGER NOT NULL,  -- random: claims go out in no order, since a sorted walk hits one partition of the provider
  reason    TEXT NOT NULL CHECK (reason IN ('new', 'changed', 'unproven')),
  size      INTEGER NOT NULL CHECK (size >= 0),
  status    TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'claimed', 'done', 'skipped', 'failed')),
  attempts  INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  copied    INTEGER NOT NULL DEFAULT 0 CHECK (copied IN (0, 1)),  -- done by a copy, not by a closer look
  code      TEXT,
  message   TEXT,
  upload    TEXT,              -- JSON of objects.UploadState; a credential on GCS
  CHECK ((code IS NOT NULL) = (status IN ('skipped', 'failed')))
) STRICT, WITHOUT ROWID;
CREATE INDEX transfer_pending ON transfer (scatter) WHERE status = 'pending';
CREATE INDEX transfer_claimed ON transfer (key) WHERE status = 'claimed';
CREATE INDEX transfer_trouble ON transfer (status, key) WHERE status IN ('skipped', 'failed');

-- A verified copy whose equality the listings alone cannot show. Kept from run to run.
CREATE TABLE proof (
  key                TEXT PRIMARY KEY,
  source_token       TEXT NOT NULL,
  destination_token  TEXT NOT NULL,
  size               INTEGER NOT NULL,
  md5                TEXT,      -- hex, where it was computed
  crc32c             TEXT,      -- base64, where it was computed
  run                INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Destination objects that the source did not list.  extra.status:
--   pending -> deleted | kept | failed      kept: the source has the key again
CREATE TABLE extra (
  key      TEXT PRIMARY KEY,
  status   TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'deleted', 'kept', 'failed')),
  code     TEXT,
  message  TEXT,
  CHECK ((code IS NOT NULL) = (status = 'failed'))
) STRICT, WITHOUT ROWID;
CREATE INDEX extra_pending ON extra (key) WHERE status = 'pending';
CREATE INDEX extra_failed ON extra (key) WHERE status = 'failed';

-- How far the passes after copying have come.
CREATE TABLE progress (
  one              INTEGER PRIMARY KEY CHECK (one = 1),
  extra_found      INTEGER NOT NULL DEFAULT 0 CHECK (extra_found IN (0, 1)),
  purge_key        TEXT,     -- the last row of versions dealt with
  purge_version    TEXT,
  purge_modified   TEXT,
  markers_seen     INTEGER NOT NULL DEFAULT 0 CHECK (markers_seen IN (0, 1)),
  purged           INTEGER NOT NULL DEFAULT 0,
  purge_failed     INTEGER NOT NULL DEFAULT 0
) STRICT;
