-- job.db, version 3: a run that had finished was taken up again for what had failed in it; its listings are as old as it is.
ALTER TABLE run ADD COLUMN reopened INTEGER NOT NULL DEFAULT 0 CHECK (reopened IN (0, 1));
