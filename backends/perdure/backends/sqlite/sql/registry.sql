-- name: register
INSERT INTO function (name, version, timeout, retention, registered) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name, version) DO UPDATE
SET timeout = excluded.timeout, retention = excluded.retention, registered = excluded.registered

-- name: versions
SELECT name, version, timeout, retention, registered FROM function WHERE name = ? ORDER BY registered, version
