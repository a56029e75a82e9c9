-- The guard of a table, and what it says when it refuses. SQLSTATE: RG001 the epoch is over, RG002 no token, RG003 another
-- holder, RG004 another cluster, RG005 another role, RG006 the epoch was not raised here yet.

CREATE OR REPLACE FUNCTION regent.epoch_text(epoch bigint) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN 'g' || (epoch >> 32) || '.e' || (epoch & 4294967295);

CREATE OR REPLACE FUNCTION regent.refuse_stale(guarding text, shown bigint, ruling bigint, held_by text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $stale$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RG001',
        MESSAGE = format('epoch %s of %s is over: %s is held by %s', regent.epoch_text(shown), guarding,
            regent.epoch_text(ruling), held_by),
        DETAIL = format('role=%s shown=%s current=%s holder=%s', guarding, regent.epoch_text(shown),
            regent.epoch_text(ruling), held_by),
        HINT = 'stop writing; another holds the role';
END
$stale$;

-- Its argument is the role. SECURITY DEFINER: a writer has no right to the fence. It takes the row FOR SHARE: under READ
-- COMMITTED a raise that was committed meanwhile is seen; under REPEATABLE READ and SERIALIZABLE, where the snapshot is
-- older than the raise, the lock itself fails with 40001, and the transaction that is tried again is refused as stale.
CREATE OR REPLACE FUNCTION regent.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE
    raw      text := coalesce(current_setting('regent.token', true), '');
    token    text[] := string_to_array(raw, ' ');
    guarding text := TG_ARGV[0];
    place    text;
    shown    bigint;
    ahead    record;
    ruling   record;
BEGIN
    IF cardinality(token) = 4 AND token[2] = guarding AND token[3] ~ '^[0-9]{1,18}$' THEN
        shown := token[3]::bigint;
    ELSE
        place := format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
        IF raw = '' THEN
            RAISE EXCEPTION USING ERRCODE = 'RG002',
                MESSAGE = format('%s is guarded by %s, and this transaction shows no token', place, guarding),
                HINT = 'before its first write, a transaction says SET LOCAL regent.token = ''CLUSTER ROLE EPOCH HOLDER''';
        ELSIF cardinality(token) = 4 AND token[3] ~ '^[0-9]{1,18}$' THEN
            RAISE EXCEPTION USING ERRCODE = 'RG005',
                MESSAGE = format('token of role %s at a door of role %s', left(token[2], 100), guarding),
                DETAIL = format('shown=%s current=%s', left(token[2], 100), guarding),
                HINT = format('show a token of %s for writes to %s', guarding, place);
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'RG002',
            MESSAGE = format('%s is guarded by %s, and what this transaction shows is no token', place, guarding),
            DETAIL = format('shown=%s', left(raw, 300)),
            HINT = 'write cluster id, role, epoch as a number, and holder, with one space between them';
    END IF;

    -- Before the lock: who is known to be stale must not hold up the raise that ends its epoch.
    SELECT a.cluster_id::text AS cluster_id, a.epoch, a.holder INTO ahead
        FROM regent.announced a WHERE a.role = guarding;
    IF ahead.epoch > shown AND ahead.cluster_id = token[1] THEN
        PERFORM regent.refuse_stale(guarding, shown, ahead.epoch, ahead.holder);
    ELSIF ahead.epoch > shown THEN
        -- Another cluster is about to take over: generations grow, so what a former one announced once is below.
        RAISE EXCEPTION USING ERRCODE = 'RG004',
            MESSAGE = format('token of cluster %s at a door that goes over to cluster %s', left(token[1], 100), ahead.cluster_id),
            DETAIL = format('role=%s shown=%s current=%s', guarding, left(token[1], 100), ahead.cluster_id),
            HINT = 'take the token from an agent of the cluster that rules here';
    END IF;

    SELECT f.cluster_id::text AS cluster_id, f.epoch, f.holder INTO ruling
        FROM regent.fence f WHERE f.role = guarding FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RG006',
            MESSAGE = format('no epoch of %s was raised in this database yet; %s was shown', guarding, regent.epoch_text(shown)),
            DETAIL = format('role=%s shown=%s', guarding, regent.epoch_text(shown)),
            HINT = 'try again once an agent that is configured for this database has claimed it';
    ELSIF ruling.cluster_id <> token[1] THEN
        RAISE EXCEPTION USING ERRCODE = 'RG004',
            MESSAGE = format('token of cluster %s at a door of cluster %s', left(token[1], 100), ruling.cluster_id),
            DETAIL = format('role=%s shown=%s current=%s', guarding, left(token[1], 100), ruling.cluster_id),
            HINT = 'take the token from an agent of the cluster that rules here';
    ELSIF shown < ruling.epoch THEN
        PERFORM regent.refuse_stale(guarding, shown, ruling.epoch, ruling.holder);
    ELSIF shown > ruling.epoch THEN
        RAISE EXCEPTION USING ERRCODE = 'RG006',
            MESSAGE = format('epoch %s of %s was not raised here yet: %s is held by %s', regent.epoch_text(shown), guarding,
                regent.epoch_text(ruling.epoch), ruling.holder),
            DETAIL = format('role=%s shown=%s current=%s holder=%s', guarding, regent.epoch_text(shown),
                regent.epoch_text(ruling.epoch), ruling.holder),
            HINT = 'try again once an agent that is configured for this database has claimed it';
    ELSIF ruling.holder <> token[4] THEN
        RAISE EXCEPTION USING ERRCODE = 'RG003',
            MESSAGE = format('epoch %s of %s is held by %s, not by %s', regent.epoch_text(shown), guarding, ruling.holder,
                left(token[4], 200)),
            DETAIL = format('role=%s shown=%s current=%s holder=%s', guarding, regent.epoch_text(shown),
                regent.epoch_text(ruling.epoch), ruling.holder),
            HINT = 'stop writing; the agent of the holder gives out the token';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$guard$;
