-- name: run_columns
no, run_id, workflow, status, business_id, generation, first_seq, epoch, owner, ready_at, wake_at, priority,
concurrency_key, concurrency, parent, parent_path, created_at, ended_at, detail

-- name: next_no
1 + max(coalesce((SELECT max(no) FROM run), 0), coalesce((SELECT max(no) FROM purged), 0))

-- name: insert_run
INSERT INTO run (no, run_id, workflow, status, business_id, generation, epoch, owner, ready_at, priority,
                 concurrency_key, concurrency, parent, parent_path, created_at)
VALUES ({next_no}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: run_by_id
SELECT {run_columns} FROM run WHERE run_id = ?

-- name: run_by_business_id
SELECT {run_columns} FROM run WHERE business_id = ? AND business_id <> ''

-- name: run_by_no
SELECT {run_columns} FROM run WHERE no = ?

-- name: list_runs
SELECT {run_columns} FROM run
WHERE (:any_status OR iif(status = 'ready' AND epoch = 0, 'pending', status) IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow = '' OR instr(workflow, :workflow) > 0)

-- name: with_ended_status
status = :only_status

-- name: with_parent
parent = :parent AND parent <> ''

-- name: with_run_id
run_id IN (SELECT value FROM json_each(:run_ids))

-- name: with_early_end
ended_at > 0 AND ended_at < :ended_before

-- name: with_purgeable
ended_at > 0 AND status IN ('completed', 'failed', 'cancelled') AND NOT EXISTS (
    SELECT 1 FROM run AS above
    WHERE above.run_id = run.parent AND above.status NOT IN ('completed', 'failed', 'cancelled')
)

-- name: with_attribute_eq
no IN (SELECT run_no FROM attribute WHERE name = ? AND value = ? AND typeof(value) IN (?, ?))

-- name: with_attribute_ne
no IN (SELECT run_no FROM attribute WHERE name = ? AND value <> ? AND typeof(value) IN (?, ?))

-- name: with_attribute_lt
no IN (SELECT run_no FROM attribute WHERE name = ? AND value < ? AND typeof(value) IN (?, ?))

-- name: with_attribute_le
no IN (SELECT run_no FROM attribute WHERE name = ? AND value <= ? AND typeof(value) IN (?, ?))

-- name: with_attribute_gt
no IN (SELECT run_no FROM attribute WHERE name = ? AND value > ? AND typeof(value) IN (?, ?))

-- name: with_attribute_ge
no IN (SELECT run_no FROM attribute WHERE name = ? AND value >= ? AND typeof(value) IN (?, ?))

-- name: newest_first
ORDER BY no DESC LIMIT :limit

-- name: earliest_end_first
ORDER BY ended_at, no LIMIT :limit

-- name: attributes
SELECT run_no, name, value FROM attribute WHERE run_no IN (SELECT value FROM json_each(?)) ORDER BY run_no, name

-- name: set_attribute
INSERT INTO attribute (run_no, name, value) VALUES (?, ?, ?)
ON CONFLICT (run_no, name) DO UPDATE SET value = excluded.value

-- name: drop_attribute
DELETE FROM attribute WHERE run_no = ? AND name = ?

-- name: insert_alert
INSERT INTO alert (run_id, workflow, status, detail, at, due_at) SELECT run_id, workflow, status, detail, ?1, ?1 FROM run
WHERE no = ?2

-- name: take_alert
UPDATE alert SET attempts = attempts + 1, due_at = ? WHERE id = ? AND attempts = ?

-- name: drop_alert
DELETE FROM alert WHERE id = ?

-- name: alerts
SELECT id, run_id, workflow, status, detail, at, attempts, due_at FROM alert WHERE due_at <= ? ORDER BY id LIMIT ?

-- name: purge_run
DELETE FROM run WHERE no = ?

-- name: purge_letters
DELETE FROM inbox WHERE run_no = ?

-- name: purge_attributes
DELETE FROM attribute WHERE run_no = ?

-- name: purge_later
INSERT INTO purged (no) VALUES (?)

-- name: unswept
SELECT no FROM purged WHERE swept = 0 ORDER BY no LIMIT 1

-- name: sweepable_events
SELECT id, blob FROM journal WHERE id >= ?1 << 24 AND id < (?1 + 1) << 24 ORDER BY id LIMIT ?2

-- name: sweep_events
DELETE FROM journal WHERE id >= ? AND id <= ?

-- name: sweep_blob
DELETE FROM blob WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.blob = ?1)

-- name: swept
UPDATE purged SET swept = 1 WHERE no = ?

-- name: forget_purged
DELETE FROM purged WHERE swept = 1 AND no < (SELECT max(no) FROM purged)

-- name: forget_business_id
UPDATE run SET business_id = '' WHERE no = ?

-- name: fence
SELECT epoch, owner, (SELECT max(id) FROM journal WHERE id >= ?1 << 24 AND id < (?1 + 1) << 24) FROM run WHERE no = ?1

-- name: fences
SELECT run.no, run.epoch, run.owner,
       (SELECT max(id) FROM journal WHERE id >= run.no << 24 AND id < (run.no + 1) << 24)
FROM json_each(?) AS wanted CROSS JOIN run ON run.no = wanted.value

-- name: insert_blob
INSERT INTO blob (hash, body) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING

-- name: load_events
SELECT journal.id, journal.event, journal.blob, blob.body FROM journal LEFT JOIN blob ON blob.hash = journal.blob
WHERE journal.id >= ? AND journal.id < ? ORDER BY journal.id

-- name: last_event
SELECT journal.id, journal.event, journal.blob, blob.body FROM journal LEFT JOIN blob ON blob.hash = journal.blob
WHERE journal.id >= ? AND journal.id < ? ORDER BY journal.id DESC LIMIT 1

-- name: change_run
UPDATE run SET status = ?, owner = ?, ready_at = ?, wake_at = ?, detail = ?, ended_at = ?, generation = ?, first_seq = ?
WHERE no = ?

-- name: count_unread
SELECT count(*) FROM inbox WHERE run_no = ? AND event IS NOT NULL

-- name: known_letter
SELECT 1 FROM inbox WHERE run_no = ? AND key = ?

-- name: has_unread
SELECT EXISTS (SELECT 1 FROM inbox WHERE run_no = ? AND event IS NOT NULL)

-- name: insert_letter
INSERT INTO inbox (run_no, key, generation, event) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: unread_letters
SELECT id, event, generation FROM inbox WHERE run_no = ? AND event IS NOT NULL ORDER BY id

-- name: consume_keyed
UPDATE inbox SET event = NULL WHERE id = ? AND run_no = ? AND key IS NOT NULL

-- name: consume_plain
DELETE FROM inbox WHERE id = ? AND run_no = ? AND key IS NULL

-- name: wake
UPDATE run SET status = 'ready', ready_at = ? WHERE no = ? AND status = 'waiting'

-- name: mail
SELECT DISTINCT inbox.run_no FROM inbox JOIN run ON run.no = inbox.run_no
WHERE inbox.event IS NOT NULL AND run.owner = ?

-- name: next_due
SELECT min(due) FROM (
    SELECT min(wake_at) AS due FROM run WHERE status = 'waiting' AND wake_at > 0 AND wake_at > ?1
    UNION ALL SELECT min(ready_at) FROM run WHERE status = 'ready' AND ready_at > ?1
)

-- name: promote_due
UPDATE run SET status = 'ready', ready_at = wake_at WHERE status = 'waiting' AND wake_at > 0 AND wake_at <= ?

-- name: expired_owners
SELECT owner FROM owner WHERE expires_at < ?

-- name: free_runs
UPDATE run SET status = 'ready', owner = '', ready_at = ? WHERE owner = ? AND owner <> '' AND status = 'running'

-- name: delete_owner
DELETE FROM owner WHERE owner = ?

-- name: ready_runs
SELECT no, run_id, epoch, concurrency, concurrency_key FROM run WHERE status = 'ready' ORDER BY priority DESC, ready_at, no

-- name: under_way
SELECT count(*) FROM run WHERE concurrency_key = ? AND concurrency > 0 AND ended_at = 0 AND epoch > 0

-- name: take
UPDATE run SET status = 'running', owner = ?, epoch = epoch + 1 WHERE no = ? RETURNING {run_columns}

-- name: reclaim
UPDATE run SET epoch = epoch + 1 WHERE no = ? AND owner = ? AND status = 'running' RETURNING {run_columns}

-- name: renew
INSERT INTO owner (owner, host, pid, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (owner) DO UPDATE SET expires_at = excluded.expires_at

-- name: owners
SELECT owner, host, pid, expires_at FROM owner
UNION ALL SELECT DISTINCT owner, '', 0, 0 FROM run WHERE owner <> '' AND owner NOT IN (SELECT owner FROM owner)
ORDER BY owner

-- name: unblock
UPDATE run SET status = 'ready', ready_at = ?, detail = '' WHERE status = 'blocked' AND ?2 IN ('', run_id)

-- name: bump_epoch
UPDATE run SET epoch = epoch + 1 WHERE no = ?

-- name: open_task
INSERT INTO task (run_no, path, generation, task, asked_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_no, path) DO UPDATE SET generation = excluded.generation, task = excluded.task, asked_at = excluded.asked_at

-- name: close_task
DELETE FROM task WHERE run_no = ? AND path = ?

-- name: close_tasks
DELETE FROM task WHERE run_no = ?

-- name: tasks
SELECT task.run_no, run.run_id, task.path, task.task, task.asked_at, task.generation FROM task JOIN run ON run.no = task.run_no
WHERE ?1 IN ('', run.run_id) ORDER BY task.asked_at, task.run_no, task.path

-- name: version
PRAGMA data_version

-- name: epoch
SELECT CASE WHEN owner = '' THEN 0 ELSE epoch END FROM run WHERE no = ?

-- name: head
SELECT max(id) FROM journal WHERE id >= ?1 << 24 AND id < (?1 + 1) << 24

-- name: insert_copy
INSERT INTO run (no, run_id, workflow, status, business_id, generation, first_seq, epoch, owner, ready_at, wake_at,
                 priority, concurrency_key, concurrency, parent, parent_path, created_at, ended_at, detail)
VALUES ({next_no}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: all_mail
SELECT event, coalesce(key, ''), generation FROM inbox WHERE run_no = ? ORDER BY id

-- name: all_children
SELECT {run_columns} FROM run WHERE parent = ? AND parent <> '' ORDER BY no

-- name: stale_events
SELECT id, event, id FROM journal WHERE id > ? AND id <= ? AND substr(event, 1, {head}) <> ? ORDER BY id LIMIT ?

-- name: reseal_events
UPDATE journal SET event = ? WHERE id = ?

-- name: stale_letters
SELECT id, event, run_no FROM inbox
WHERE id > ? AND id <= ? AND event IS NOT NULL AND substr(event, 1, {head}) <> ? ORDER BY id LIMIT ?

-- name: reseal_letters
UPDATE inbox SET event = ? WHERE id = ?

-- name: stale_tasks
SELECT rowid, task, run_no, path FROM task WHERE rowid > ? AND rowid <= ? AND substr(task, 1, {head}) <> ? ORDER BY rowid LIMIT ?

-- name: reseal_tasks
UPDATE task SET task = ? WHERE rowid = ?

-- name: stale_details
SELECT no, detail, run_id FROM run WHERE no > ? AND no <= ? AND detail <> '' AND substr(detail, 1, {head}) <> ? ORDER BY no LIMIT ?

-- name: reseal_details
UPDATE run SET detail = ? WHERE no = ?

-- name: stale_alerts
SELECT id, detail, run_id FROM alert WHERE id > ? AND id <= ? AND detail <> '' AND substr(detail, 1, {head}) <> ? ORDER BY id LIMIT ?

-- name: reseal_alerts
UPDATE alert SET detail = ? WHERE id = ?

-- name: stale_payloads
SELECT id, hash, body FROM blob WHERE id > ? AND id <= ? AND substr(body, 1, {head}) <> ? ORDER BY id LIMIT ?

-- name: refer_to_blob
UPDATE journal SET blob = ? WHERE blob = ?

-- name: drop_blob
DELETE FROM blob WHERE hash = ?

-- name: retire_keys
DELETE FROM sealing WHERE head <> ? RETURNING name
