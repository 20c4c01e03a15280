-- `lease.reaped` is the instant of the reaping from now on, or 0: reaped leases are forgotten like tombstones.
UPDATE lease SET reaped = CAST(strftime('%s', 'now') AS INTEGER) * 1000000 WHERE reaped <> 0;
ALTER TABLE lease ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE lease SET since = until - span;
CREATE INDEX lease_reaped ON lease (reaped) WHERE reaped > 0;

-- Lists of a function by status; a list of all statuses merges one after the other.
DROP INDEX execution_function_created;
CREATE INDEX execution_function_status_created ON execution (function, status, created, id);
