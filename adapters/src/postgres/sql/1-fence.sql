-- Regent's fence in a PostgreSQL database (design.md L17), version 1. PostgreSQL 14 or later.
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
