package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresConnections is below the default max_connections of 100 and more than enough for group commit.
const postgresConnections = 80

// postgresSchema is message_db's table and write_message in short: a lock on the stream's category until the commit, so
// that global positions become visible in order within it; the version check; an insert for each event. Payloads are
// bytea, not jsonb, and there is no index beside position and stream: both in PostgreSQL's favour.
const postgresSchema = `
drop schema if exists exesdb_bench cascade;
create schema exesdb_bench;
create table exesdb_bench.messages (
  global_position bigint generated always as identity primary key,
  id uuid not null default gen_random_uuid(),
  stream_name text not null,
  position bigint not null,
  type text not null,
  data bytea not null,
  time timestamp not null default (now() at time zone 'utc'),
  unique (stream_name, position));
create function exesdb_bench.write_messages(_stream text, _expected bigint, _type text, _data bytea[]) returns bigint
language plpgsql as $$
declare
  _head bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended(split_part(_stream, '-', 1), 0));
  select position into _head from exesdb_bench.messages where stream_name = _stream order by position desc limit 1;
  _head := coalesce(_head, -1);
  if _expected <> -2 and _expected <> _head then
    raise exception 'wrong expected version: % (stream: %, version: %)', _expected, _stream, _head;
  end if;
  insert into exesdb_bench.messages (stream_name, position, type, data)
    select _stream, _head + n, _type, d from unnest(_data) with ordinality as t(d, n);
  return _head + cardinality(_data);
end $$;`

// postgres appends through the function, one transaction each.
//
// A category is what comes before the first dash. Here each writer has its own, since within one the lock would hold
// up the next append until the commit of the one before: the best case for PostgreSQL.
type postgres struct{ pool *pgxpool.Pool }

// NewPostgres makes the schema exesdb_bench anew in the database at url.
func NewPostgres(ctx context.Context, url string) (Target, string, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("postgres url: %w", err)
	}
	cfg.MaxConns = postgresConnections
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, "", fmt.Errorf("connect to postgres: %w", err)
	}
	var about string
	err = pool.QueryRow(ctx, `select format('PostgreSQL %s (fsync=%s, synchronous_commit=%s, wal_sync_method=%s)',
		current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('wal_sync_method'))`).Scan(&about)
	if err == nil {
		_, err = pool.Exec(ctx, postgresSchema)
	}
	if err != nil {
		pool.Close()
		return nil, "", fmt.Errorf("prepare postgres: %w", err)
	}
	return &postgres{pool}, about, nil
}

func (*postgres) Name() string { return "postgres" }

func (p *postgres) Close() error {
	p.pool.Close()
	return nil
}

func (p *postgres) Append(ctx context.Context, stream string, expected int64, events [][]byte) (int64, error) {
	var version int64
	err := p.pool.QueryRow(ctx, `select exesdb_bench.write_messages($1, $2, $3, $4)`, stream, expected, "BenchEvent", events).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("append to stream %s: %w", stream, err)
	}
	return version, nil
}

// ReadPage implements PageReader.
func (p *postgres) ReadPage(ctx context.Context, stream string, from int64, limit int) (n int, next int64, more bool, err error) {
	rows, err := p.pool.Query(ctx, `select id::text, position, global_position, type, data, time from exesdb_bench.messages
		where stream_name = $1 and position >= $2 order by position limit $3`, stream, from, limit+1) // one more tells whether there is more
	if err != nil {
		return 0, 0, false, fmt.Errorf("read stream %s: %w", stream, err)
	}
	type event struct {
		ID               string
		Position, Global int64
		Type             string
		Data             []byte
		Time             any
	}
	page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	if err != nil {
		return 0, 0, false, fmt.Errorf("read stream %s: %w", stream, err)
	}
	n = min(len(page), limit)
	return n, from + int64(n), len(page) > limit, nil
}
