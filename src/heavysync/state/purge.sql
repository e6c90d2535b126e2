-- Versions that could not be purged in this run, the first thousand of them: the others are counted in progress.
CREATE TABLE purge_failure (
  key      TEXT NOT NULL,
  version  TEXT NOT NULL,
  code     TEXT NOT NULL,
  message  TEXT NOT NULL,
  PRIMARY KEY (key, version)
) STRICT, WITHOUT ROWID;
-- progress.purge_step:  versions -> markers -> done,  versions -> done (no marker was met),  done -> versions (what failed is retried)
ALTER TABLE progress ADD COLUMN purge_step TEXT NOT NULL DEFAULT 'versions'
  CHECK (purge_step IN ('versions', 'markers', 'done'));
