-- What keeps the doors of this database from holding (`refuse`), and what only people can judge (`warn`).

CREATE OR REPLACE FUNCTION regent.guarded_relations()
RETURNS TABLE (role text, relid oid, shown text, owner oid, schema oid, acl aclitem[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT g.role, c.oid, c.oid::regclass::text, c.relowner, c.relnamespace, c.relacl
    FROM regent.guarded g
    CROSS JOIN LATERAL
        (SELECT g.relation::oid AS relid UNION SELECT x.relid::oid FROM pg_partition_tree(g.relation) x) p
    JOIN pg_class c ON c.oid = p.relid
    WHERE g.role <> 'regent/probe';
END;

-- Who may write guarded tables and is no superuser: of superusers there is always one, and no guard binds it.
CREATE OR REPLACE FUNCTION regent.writers()
RETURNS TABLE (role text, relid oid, shown text, owner oid, schema oid, writer oid, name text, makes_roles boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT g.role, g.relid, g.shown, g.owner, g.schema, r.oid, quote_ident(r.rolname), r.rolcreaterole
    FROM regent.guarded_relations() g
    JOIN pg_roles r ON r.rolcanlogin AND NOT r.rolsuper AND r.oid <> to_regrole('regent_fence')
        AND (has_table_privilege(r.oid, g.relid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(r.oid, g.relid, 'INSERT, UPDATE'));
END;

-- Without jit: to compile this takes seconds, to run it milliseconds.
CREATE OR REPLACE FUNCTION regent.check() RETURNS TABLE (severity text, role text, relation text, finding text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
    -- A partition that was made later has no trigger against TRUNCATE: that matters where somebody else than its owner may.
    SELECT 'refuse', g.role, m.relid::regclass::text, m.finding
        FROM regent.guarded g CROSS JOIN LATERAL regent.missing(g.relation, g.role) m
        WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = g.relation)
            AND (m.relid = g.relation OR m.of_rows
                OR EXISTS (SELECT FROM regent.writers() w WHERE w.relid = m.relid AND has_table_privilege(w.writer, m.relid, 'TRUNCATE')))
    UNION ALL
    SELECT 'refuse', g.role, g.name, format('the guarded table was dropped, and the one that has its name now is not guarded: '
            'attach it, and forget the old one with SELECT regent.forget(%s)', g.relation::oid)
        FROM regent.guarded g
        JOIN pg_class c ON c.oid <> g.relation
        JOIN pg_namespace n ON n.oid = c.relnamespace AND format('%I.%I', n.nspname, c.relname) = g.name
        WHERE NOT EXISTS (SELECT FROM pg_class o WHERE o.oid = g.relation)
            AND NOT EXISTS (SELECT FROM regent.guarded o WHERE o.relation = c.oid)
    UNION ALL
    SELECT 'refuse', g.role, c.oid::regclass::text, format('it inherits from %s, and has no guard of its own: attach it too', g.shown)
        FROM regent.guarded_relations() g
        JOIN pg_inherits i ON i.inhparent = g.relid JOIN pg_class c ON c.oid = i.inhrelid
        WHERE NOT c.relispartition AND NOT EXISTS (SELECT FROM regent.guarded o WHERE o.relation = c.oid)
    UNION ALL
    SELECT 'refuse', w.role, w.shown, format('%s writes it and may act as its owner %I, who can switch the guard off: '
            'give it to an owner that nobody logs in as', w.name, pg_get_userbyid(w.owner))
        FROM regent.writers() w WHERE pg_has_role(w.writer, w.owner, 'MEMBER')
    UNION ALL
    SELECT 'refuse', w.role, w.shown, format('%s writes it and may act as the owner %I of its schema, who can drop it: '
            'give the schema to an owner that nobody logs in as', w.name, pg_get_userbyid(n.nspowner))
        FROM regent.writers() w JOIN pg_namespace n ON n.oid = w.schema WHERE pg_has_role(w.writer, n.nspowner, 'MEMBER')
    UNION ALL
    SELECT 'refuse', w.role, w.shown, format('%s writes it and is a member of regent_fence, which raises epochs: '
            'REVOKE regent_fence FROM %s', w.name, w.name)
        FROM regent.writers() w WHERE pg_has_role(w.writer, to_regrole('regent_fence'), 'MEMBER')
    UNION ALL
    SELECT 'refuse', w.role, w.shown, format('%s writes it and has CREATEROLE, with which it can become its owner: '
            'ALTER ROLE %s NOCREATEROLE', w.name, w.name)
        FROM regent.writers() w WHERE w.makes_roles
    UNION ALL
    SELECT 'refuse', w.role, w.shown, format('%s writes it and is a member of %s, which can do what a superuser can', w.name, s.name)
        FROM regent.writers() w CROSS JOIN (VALUES ('pg_write_server_files'), ('pg_execute_server_program')) AS s (name)
        WHERE pg_has_role(w.writer, s.name::name, 'MEMBER')
    UNION ALL
    SELECT DISTINCT 'refuse', w.role, t.relid::regclass::text, format('%s may write to it itself, past the guard', w.name)
        FROM regent.writers() w
        CROSS JOIN (VALUES ('regent.fence'::regclass), ('regent.announced'), ('regent.guarded'), ('regent.superseded')) AS t (relid)
        WHERE has_table_privilege(w.writer, t.relid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
            OR has_any_column_privilege(w.writer, t.relid, 'INSERT, UPDATE')
    UNION ALL
    SELECT DISTINCT 'refuse', g.role, g.shown, format('the superuser %I was given the right to write it: no guard binds a superuser', r.rolname)
        FROM regent.guarded_relations() g CROSS JOIN LATERAL aclexplode(g.acl) a JOIN pg_roles r ON r.oid = a.grantee
        WHERE r.rolsuper AND a.grantee <> g.owner AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    UNION ALL
    SELECT 'warn', g.role, g.shown, format('its owner %I is a superuser: no application may connect as one', r.rolname)
        FROM regent.guarded_relations() g JOIN pg_roles r ON r.oid = g.owner WHERE r.rolsuper
    UNION ALL
    SELECT 'refuse', '', s.what, format('it belongs to %I, not to regent_fence', pg_get_userbyid(s.owner))
        FROM (SELECT 'schema regent' AS what, n.nspowner AS owner FROM pg_namespace n WHERE n.nspname = 'regent'
            UNION ALL SELECT c.oid::regclass::text, c.relowner FROM pg_class c WHERE c.relnamespace = 'regent'::regnamespace
            UNION ALL SELECT p.oid::regprocedure::text, p.proowner FROM pg_proc p WHERE p.pronamespace = 'regent'::regnamespace) s
        WHERE s.owner <> to_regrole('regent_fence')
    UNION ALL
    SELECT 'refuse', '', 'fsync', 'fsync is off: a crash of the machine could forget a raise'
        WHERE NOT current_setting('fsync')::boolean
    UNION ALL
    SELECT 'warn', '', 'regent_fence', 'it cannot end connections that hold a raise up, and waits for them: '
            'GRANT pg_signal_backend TO regent_fence'
        WHERE NOT pg_has_role(to_regrole('regent_fence'), to_regrole('pg_signal_backend'), 'USAGE')
    UNION ALL
    SELECT 'warn', '', 'max_prepared_transactions', 'a prepared transaction that wrote a guarded table holds a raise up until somebody ends it'
        WHERE current_setting('max_prepared_transactions')::integer > 0;
END;

-- Whoever connects as regent_fence tries the guard on this table; nothing stays in it.
CREATE TABLE IF NOT EXISTS regent.probe (id integer);
INSERT INTO regent.fence (role, cluster_id, epoch, holder)
    VALUES ('regent/probe', '00000000-0000-0000-0000-000000000000', 2, 'probe') ON CONFLICT DO NOTHING;
SELECT regent.attach('regent.probe', 'regent/probe');

REVOKE ALL ON ALL TABLES IN SCHEMA regent FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA regent FROM PUBLIC;
INSERT INTO regent.version (version) VALUES (2) ON CONFLICT (singleton) DO UPDATE SET version = excluded.version;
