-- name: is_signalled
SELECT 1 FROM signal WHERE execution = ? AND key = ?

-- name: remember_signal
INSERT INTO signal (execution, key) VALUES (?, ?)

-- name: forget_signals
DELETE FROM signal WHERE execution = ?

-- name: bury
INSERT OR REPLACE INTO tombstone (id, at) VALUES (?, ?)

-- name: is_taken
SELECT 1 FROM tombstone WHERE id = ?1
UNION ALL SELECT 1 FROM execution WHERE id = ?1
UNION ALL SELECT 1 FROM execution WHERE function = ?2 AND name = ?3

-- name: is_buried
SELECT 1 FROM tombstone WHERE id = ?

-- name: has_old_tombstones
SELECT 1 FROM tombstone WHERE at <= ? LIMIT 1

-- name: exhume
DELETE FROM tombstone WHERE id IN (SELECT id FROM tombstone WHERE at <= ? ORDER BY at LIMIT ?)
