-- Putting tables under the guard, and taking them out again; called by a table's owner, or by a superuser.

-- The guards that a table and its partitions lack. 31 and 34 are pg_trigger.tgtype: BEFORE INSERT, UPDATE and DELETE of each
-- row, and BEFORE TRUNCATE.
CREATE OR REPLACE FUNCTION regent.missing(target regclass, guarding text) RETURNS TABLE (relid oid, of_rows boolean, finding text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.relid, w.tgtype = 31,
        CASE WHEN bool_or(t.oid IS NOT NULL)
            THEN 'its guard ' || w.what || ' does not always fire: it was disabled'
            ELSE 'it has no guard ' || w.what
        END || format('; its owner says SELECT regent.attach(%L, %L)', target::text, guarding)
    FROM (SELECT target::oid AS relid UNION SELECT x.relid::oid FROM pg_partition_tree(target) x) p
    CROSS JOIN (VALUES (31, 'of its rows'), (34, 'against TRUNCATE')) AS w (tgtype, what)
    LEFT JOIN pg_trigger t ON t.tgrelid = p.relid AND t.tgtype = w.tgtype
        AND t.tgfoid = 'regent.guard()'::regprocedure AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
        AND t.tgargs = convert_to(guarding, 'UTF8') || '\000'::bytea
    GROUP BY p.relid, w.tgtype, w.what
    HAVING NOT bool_or(coalesce(t.tgenabled = 'A', false));
END;

CREATE OR REPLACE FUNCTION regent.guarding(target regclass) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT g.role FROM regent.guarded g WHERE g.relation = target;
END;

-- Takes down what is guarded now, and only that: whoever may call this invents no guard.
CREATE OR REPLACE FUNCTION regent.remember(target regclass, guarding text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $remember$
BEGIN
    IF EXISTS (SELECT FROM regent.missing(target, guarding)) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s is not guarded by %s', target, guarding);
    END IF;
    INSERT INTO regent.guarded AS g (relation, name, role)
        SELECT c.oid, format('%I.%I', n.nspname, c.relname), guarding
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target
        ON CONFLICT (relation) DO UPDATE SET name = excluded.name, role = excluded.role;
END
$remember$;

CREATE OR REPLACE FUNCTION regent.forget(target regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $forget$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = target AND t.tgfoid = 'regent.guard()'::regprocedure) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s is still guarded', target),
            HINT = format('its owner says SELECT regent.detach(%L)', target::text);
    END IF;
    DELETE FROM regent.guarded g WHERE g.relation = target;
END
$forget$;

-- For each row, not for each statement: row triggers are cloned to every partition, also to those that are made later, so
-- that no write goes round the parent. ALWAYS, so that session_replication_role switches nothing off. TRUNCATE has no rows:
-- a trigger on each table.
CREATE OR REPLACE FUNCTION regent.attach(target regclass, guarding text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $attach$
DECLARE
    part regclass;
BEGIN
    IF guarding !~ '^(primaries/[a-z0-9]([-_.a-z0-9]{0,61}[a-z0-9])?|regent/probe)$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%L is no role', guarding), HINT = 'write primaries/NAME';
    ELSIF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = target AND c.relkind IN ('r', 'p')) THEN
        RAISE EXCEPTION USING ERRCODE = '42809', MESSAGE = format('%s is no table, so it cannot be guarded', target),
            HINT = 'guard the tables that a view writes to';
    ELSIF regent.guarding(target) <> guarding THEN
        RAISE EXCEPTION USING ERRCODE = '42710', MESSAGE = format('%s is guarded by %s', target, regent.guarding(target)),
            HINT = format('SELECT regent.detach(%L) first', target::text);
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER regent_guard BEFORE INSERT OR UPDATE OR DELETE ON %s '
        'FOR EACH ROW EXECUTE FUNCTION regent.guard(%L)', target, guarding);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER regent_guard', target);
    FOR part IN SELECT target UNION SELECT x.relid FROM pg_partition_tree(target) x LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER regent_guard_truncate BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION regent.guard(%L)', part, guarding);
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER regent_guard_truncate', part);
    END LOOP;
    PERFORM regent.remember(target, guarding);
END
$attach$;

CREATE OR REPLACE FUNCTION regent.detach(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $detach$
DECLARE
    part regclass;
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = target) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS regent_guard ON %s', target);
        FOR part IN SELECT target UNION SELECT x.relid FROM pg_partition_tree(target) x LOOP
            EXECUTE format('DROP TRIGGER IF EXISTS regent_guard_truncate ON %s', part);
        END LOOP;
    END IF;
    PERFORM regent.forget(target);
END
$detach$;
