#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Real programs, from Debian's packages (roots.sh), checkpointed in the middle of something and restored in a fresh VM.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
load programs
setup_file() { file_setup; }
teardown_file() { file_teardown; }
teardown() {
    local id
    for id in $(stasis list -q); do
        stasis delete --force "$id"
    done
}

@test "Redis: its data, and a client that is connected" {
    program redis 'redis-server --bind 127.0.0.1 --save "" --appendonly yes --dir /data >/data/log 2>&1 &
        until redis-cli ping; do sleep 0.2; done >/dev/null 2>&1
        while :; do echo incr counter; sleep 0.2; done | redis-cli >/data/counter'
    wait_until 120 lines "$D/counter" 3 || {
        cat "$D/log"
        false
    }
    redis() { stasis exec "$1" redis-cli "${@:2}"; }
    redis redis debug populate 10000 key 100 || redis redis set key:1 value
    redis redis set greeting hello
    local keys
    keys=$(redis redis dbsize)
    move redis --tcp-established
    [ "$(redis redis-new get greeting)" = hello ]
    [ "$(redis redis-new dbsize)" = "$keys" ]
    local n
    n=$(wc -l <"$D/counter")
    wait_until 60 lines "$D/counter" $((n + 5))
    # Each answer is one more than the one before: it is the same connection to the same server.
    awk '$1 != NR {exit 1}' "$D/counter"
}

@test "PostgreSQL: a transaction that is open, through a unix socket" {
    mkdir -p "$T/postgresql.data"
    cp -a "$STASIS_OUT/rootfs/postgresql/data/db" "$T/postgresql.data/db"
    program postgresql 'PATH=/usr/lib/postgresql/15/bin:$PATH
        postgres -D /data/db -k /tmp -c listen_addresses= -c shared_buffers=16MB -c fsync=off >/data/log 2>&1 &
        until psql -h /tmp postgres -c "create table t (n int)"; do sleep 0.5; done >/dev/null 2>&1
        { echo "begin; insert into t select generate_series(1, 1000);"
          until [ -e /data/go ]; do sleep 0.2; done
          echo "insert into t values (1001); commit; select count(*), sum(n) from t;"; } |
            psql -h /tmp -At postgres >/data/session 2>&1
        wait'
    wait_until 300 in_file "$D/session" "INSERT 0 1000" || {
        cat "$D/log"
        false
    }
    query() { stasis exec "$1" psql -h /tmp -At -U server postgres -c 'select count(*) from t'; }
    [ "$(query postgresql)" = 0 ]
    move postgresql
    [ "$(query postgresql-new)" = 0 ]
    touch "$D/go"
    wait_until 60 in_file "$D/session" "^1001|501501$" || {
        cat "$D/session" "$D/log"
        false
    }
    [ "$(query postgresql-new)" = 1001 ]
}

@test "nginx: in the middle of a download over the loopback, and for new clients" {
    mkdir -p "$T/nginx.data"
    head -c 8000000 /dev/urandom >"$T/nginx.data/big"
    cat >"$T/nginx.data/conf" <<'CONF'
worker_processes 2;
daemon off;
pid /run/nginx.pid;
error_log /data/error.log;
events { worker_connections 64; }
http {
    access_log /data/access.log;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 127.0.0.1:8080; root /data; }
}
CONF
    program nginx 'nginx -c /data/conf &
        until curl -s http://127.0.0.1:8080/conf -o /dev/null; do sleep 0.2; done
        curl -s --limit-rate 300k http://127.0.0.1:8080/big -o /data/got; echo "curl ended with $?" >/data/ended; wait'
    wait_until 120 test -s "$D/got"
    [ ! -e "$D/ended" ]
    move nginx --tcp-established
    stasis exec nginx-new curl -sS http://127.0.0.1:8080/conf | cmp - "$D/conf"
    wait_until 120 test -e "$D/ended"
    cat "$D/ended"
    grep -q 'with 0' "$D/ended"
    cmp "$D/big" "$D/got"
}

@test "Python: in the middle of a calculation, with open files" {
    mkdir -p "$T/python.data"
    cat >"$T/python.data/program.py" <<'PROGRAM'
import sys
x, table = 1, {}
with open("progress", "w", buffering=1) as progress, open("result", "w") as result:
    for i in range(40):
        for k in range(20000):
            x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
            table[x % 5000] = i * k
        print(i, x, file=progress)
        result.write(f"{i} {sum(table.values())}\n")
    print("over", file=progress)
PROGRAM
    mkdir -p "$T/expected"
    (cd "$T/expected" && python3 "$T/python.data/program.py")
    program python 'exec python3 /data/program.py'
    wait_until 120 lines "$D/progress" 5
    move python
    wait_until 300 in_file "$D/progress" over
    wait_until 60 status_is python-new stopped
    cmp "$D/progress" "$T/expected/progress"
    cmp "$D/result" "$T/expected/result"
}

@test "Node.js: in the middle of a calculation, with timers and open files" {
    mkdir -p "$T/node.data"
    cat >"$T/node.data/program.js" <<'PROGRAM'
const fs = require("fs");
const progress = fs.openSync("/data/progress", "w");
let x = 1n, i = 0;
function step() {
    for (let k = 0; k < 5000; k++) x = (x * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    fs.writeSync(progress, `${i} ${x}\n`);
    if (++i < 40) setTimeout(step, 50);
    else fs.write(progress, "over\n", () => process.exit(0));
}
step();
PROGRAM
    program node 'exec node /data/program.js >/data/log 2>&1'
    goes_on node 40 5000
}
