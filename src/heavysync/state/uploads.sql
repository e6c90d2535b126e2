-- Uploads that were begun and will not be completed. Kept from run to run, until they are aborted.
CREATE TABLE abandoned (
  number  INTEGER PRIMARY KEY,
  key     TEXT NOT NULL,
  upload  TEXT NOT NULL,                                  -- as in transfer
  tries   INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0)   -- attempts to abort it that failed
) STRICT;
-- transfers with an upload: few, in a table of many
CREATE INDEX transfer_upload ON transfer (key) WHERE upload IS NOT NULL;
