-- Regent's fence in a PostgreSQL database (design.md L17), version 2. PostgreSQL 14 or later.
-- Run by the role regent_fence, which owns everything in here; running it again changes nothing. Who may do what:
--   regent_fence   raises epochs; nobody else may, and no application is a member of it
--   table owners   attach the guard to their tables; they could switch it off, so no application writes as one of them
--   writers        show a token with each transaction; they have no right in this schema at all
-- A token is the text of the setting regent.token: cluster id, role, epoch as a number, holder, with one space between them.

CREATE SCHEMA IF NOT EXISTS regent;
REVOKE ALL ON SCHEMA regent FROM PUBLIC;

-- One row for each role that guards something: the epoch that rules. Writers hold it FOR SHARE until their transaction ends,
-- so a raise comes after every write that an older epoch was let through with, or ends it.
CREATE TABLE IF NOT EXISTS regent.fence (
    role       text        PRIMARY KEY,
    cluster_id uuid        NOT NULL,
    epoch      bigint      NOT NULL CHECK (epoch > 0),
    holder     text        NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- The epoch that is about to be raised, committed before the raise waits. Row locks in share mode pass a waiting UPDATE by:
-- without this, writers that overlap without end would hold a raise up for ever. Nobody locks these rows.
CREATE TABLE IF NOT EXISTS regent.announced (
    role         text        PRIMARY KEY,
    cluster_id   uuid        NOT NULL,
    epoch        bigint      NOT NULL CHECK (epoch > 0),
    holder       text        NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Clusters that another one goes on from. The CA signed that, and who wrote it here has verified it (design.md L19). Rows are only
-- added: what is over does not come back, whoever runs it, and from whichever backup.
CREATE TABLE IF NOT EXISTS regent.superseded (
    cluster_id uuid        PRIMARY KEY,
    by         uuid        NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The fence's own guard: no epoch of a cluster that is over, and to another cluster by a higher epoch only.
CREATE OR REPLACE FUNCTION regent.fence_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fence_guard$
DECLARE
    successor uuid;
BEGIN
    SELECT s.by INTO successor FROM regent.superseded s WHERE s.cluster_id = NEW.cluster_id;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RG004',
            MESSAGE = format('cluster %s is over: %s goes on from it', NEW.cluster_id, successor),
            DETAIL = format('role=%s shown=%s current=%s', NEW.role, NEW.cluster_id, successor);
    ELSIF TG_OP = 'UPDATE' AND NEW.cluster_id <> OLD.cluster_id AND NEW.epoch <= OLD.epoch THEN
        RAISE EXCEPTION USING ERRCODE = 'RG004',
            MESSAGE = format('cluster %s takes %s over by a higher epoch only, and %s is not above %s', NEW.cluster_id, NEW.role,
                NEW.epoch, OLD.epoch),
            DETAIL = format('role=%s shown=%s current=%s', NEW.role, NEW.cluster_id, OLD.cluster_id);
    END IF;
    RETURN NEW;
END
$fence_guard$;
CREATE OR REPLACE TRIGGER fence_guard BEFORE INSERT OR UPDATE ON regent.fence
    FOR EACH ROW EXECUTE FUNCTION regent.fence_guard();
ALTER TABLE regent.fence ENABLE ALWAYS TRIGGER fence_guard;
CREATE OR REPLACE TRIGGER fence_guard BEFORE INSERT OR UPDATE ON regent.announced
    FOR EACH ROW EXECUTE FUNCTION regent.fence_guard();
ALTER TABLE regent.announced ENABLE ALWAYS TRIGGER fence_guard;

-- What ought to be guarded, so that regent.check() sees a guard that was taken away. The name is for a table that was
-- dropped and made again: it is another table then.
CREATE TABLE IF NOT EXISTS regent.guarded (
    relation regclass    PRIMARY KEY,
    name     text        NOT NULL,
    role     text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS regent.version (
    version   integer NOT NULL,
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
