-- The acknowledged parts of the uploads in transfer: a row each, so that keeping one costs the same however many there are.
CREATE TABLE upload_part (
  key        TEXT NOT NULL,
  number     INTEGER NOT NULL CHECK (number >= 1),
  etag       TEXT NOT NULL,             -- empty on GCS
  md5        TEXT NOT NULL,             -- hex; empty where it was not computed
  crc32c     INTEGER NOT NULL,
  crc64nvme  TEXT NOT NULL DEFAULT '',  -- base64; empty where it was not computed
  PRIMARY KEY (key, number)
) STRICT, WITHOUT ROWID;

INSERT INTO upload_part (key, number, etag, md5, crc32c)
SELECT t.key,
       json_extract(p.value, '$[0]'), json_extract(p.value, '$[1]'), json_extract(p.value, '$[2]'), json_extract(p.value, '$[3]')
  FROM transfer AS t, json_each(t.upload, '$.parts') AS p
 WHERE t.upload IS NOT NULL;
UPDATE transfer SET upload = json_remove(upload, '$.parts') WHERE upload IS NOT NULL;

-- In whatever way an upload leaves its transfer, its parts go with it.
CREATE TRIGGER upload_left AFTER UPDATE OF upload ON transfer WHEN OLD.upload IS NOT NULL AND NEW.upload IS NULL
BEGIN
  DELETE FROM upload_part WHERE key = OLD.key;
END;
