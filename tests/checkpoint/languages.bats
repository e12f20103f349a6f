#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Programs in languages with a run time of their own, in the middle of a calculation that several of its threads, processes
# or coroutines take part in; and several servers in one container.
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

@test "Java: threads, a table, what the compiler has made of it" {
    mkdir -p "$T/java.data"
    cat >"$T/java.data/Program.java" <<'PROGRAM'
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;

public class Program {
    public static void main(String[] args) throws Exception {
        var table = new ConcurrentHashMap<Integer, Long>();
        var pool = Executors.newFixedThreadPool(3);
        table.put(-1, 1L);
        try (var out = new PrintStream(new FileOutputStream("/data/progress"), true)) {
            for (int i = 0; i < 40; i++) {
                final int n = i;
                pool.submit(() -> {
                    long x = table.get(n - 1);
                    for (int k = 0; k < 20000; k++) x = x * 6364136223846793005L + 1442695040888963407L;
                    table.put(n, x);
                }).get();
                out.println(i + " " + Long.toUnsignedString(table.get(i)));
                Thread.sleep(50);
            }
            out.println("over");
        }
        pool.shutdown();
    }
}
PROGRAM
    program java 'exec /usr/lib/jvm/java-1.17.0-openjdk-amd64/bin/java /data/Program.java >/data/log 2>&1'
    goes_on java 40 20000
}

@test "Erlang: processes that send each other messages, and timers" {
    mkdir -p "$T/erlang.data"
    cat >"$T/erlang.data/program" <<'PROGRAM'
#!/usr/bin/escript
-mode(compile).
draw(X, 0) -> X;
draw(X, N) -> draw((X * 6364136223846793005 + 1442695040888963407) band 16#ffffffffffffffff, N - 1).
worker(X) -> receive {From, Rounds} -> Y = draw(X, Rounds), From ! Y, worker(Y) end.
step(_, F, 40) -> file:write(F, "over\n");
step(Worker, F, I) ->
    Worker ! {self(), 2000},
    receive X -> file:write(F, io_lib:format("~w ~w~n", [I, X])) end,
    erlang:send_after(50, self(), go),
    receive go -> step(Worker, F, I + 1) end.
main(_) ->
    {ok, F} = file:open("/data/progress", [write, raw]),
    step(spawn(fun() -> worker(1) end), F, 0).
PROGRAM
    program erlang 'exec escript /data/program >/data/log 2>&1'
    goes_on erlang 40 2000
}

@test "Ruby: a fiber and a thread" {
    mkdir -p "$T/ruby.data"
    cat >"$T/ruby.data/program.rb" <<'PROGRAM'
numbers = Fiber.new do
  x = 1
  loop do
    2000.times { x = (x * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff }
    Fiber.yield x
  end
end
queue = Queue.new
writer = Thread.new do
  File.open("/data/progress", "w") do |f|
    f.sync = true
    while (line = queue.pop)
      f.puts line
    end
  end
end
40.times do |i|
  queue << "#{i} #{numbers.resume}"
  sleep 0.05
end
queue << "over" << nil
writer.join
PROGRAM
    program ruby 'exec ruby /data/program.rb >/data/log 2>&1'
    goes_on ruby 40 2000
}

@test "PHP: a generator and an open file" {
    mkdir -p "$T/php.data"
    # Its integers have a sign and become floating-point numbers when they overflow: two halves, and products of 32 bits.
    cat >"$T/php.data/program.php" <<'PROGRAM'
<?php
function draw(array $x): array {
    [$ah, $al, $bh, $bl] = [$x[0], $x[1], 0x5851f42d, 0x4c957f2d];
    $parts = fn($a, $b) => [($a >> 16) * ($b >> 16), ($a >> 16) * ($b & 0xffff) + ($a & 0xffff) * ($b >> 16), ($a & 0xffff) * ($b & 0xffff)];
    [$high, $middle, $low] = $parts($al, $bl);
    $low += ($middle & 0xffff) << 16;
    $high += ($middle >> 16) + ($low >> 32);
    foreach ([[$ah, $bl], [$al, $bh]] as [$a, $b]) {
        [, $m, $l] = $parts($a, $b);
        $high += (($m & 0xffff) << 16) + $l;
    }
    $low = ($low & 0xffffffff) + 0xf767814f;
    return [($high + 0x14057b7e + ($low >> 32)) & 0xffffffff, $low & 0xffffffff];
}
function numbers(): Generator {
    for ($x = [0, 1];;) {
        for ($k = 0; $k < 2000; $k++) $x = draw($x);
        yield sprintf("%u", ($x[0] << 32) | $x[1]);
    }
}
$f = fopen("/data/progress", "w");
$i = 0;
foreach (numbers() as $x) {
    fwrite($f, "$i $x\n");
    usleep(50000);
    if (++$i == 40) break;
}
fwrite($f, "over\n");
PROGRAM
    program php 'exec php8.2 /data/program.php >/data/log 2>&1'
    goes_on php 40 2000
}

@test "Node.js 20: refused for its io_uring, with the remedy, which helps" {
    mkdir -p "$T/node20.data"
    cat >"$T/node20.data/program.js" <<'PROGRAM'
const fs = require("fs/promises");
const { setTimeout } = require("timers/promises");
(async () => {
    const progress = await fs.open("/data/progress", "w");
    let x = 1n;
    for (let i = 0; i < 40; i++) {
        for (let k = 0; k < 5000; k++) x = (x * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
        await progress.write(`${i} ${x}\n`);
        await setTimeout(50);
    }
    await progress.write("over\n");
    await progress.close();
})();
PROGRAM
    program node20 'exec node /data/program.js >/data/log 2>&1'
    wait_until 180 lines "$D/progress" 5
    run checkpoint node20
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *io_uring*sysctl.kernel.io_uring_disabled=2* ]]
    stasis delete --force node20
    rm "$D/progress"
    printf '%s\n' '[vm]' 'kernel_params = sysctl.kernel.io_uring_disabled=2' >"$T/no_uring.conf"
    # shellcheck disable=SC2034 # for program
    OPTIONS=(--config "$T/no_uring.conf")
    program node20 'exec node /data/program.js >/data/log 2>&1'
    goes_on node20 40 5000
}

@test "PostgreSQL, nginx and memcached: an open transaction, and connections in the middle of a request" {
    mkdir -p "$T/stack.data"
    cp -a "$STASIS_OUT/rootfs/stack/data/db" "$T/stack.data/db"
    head -c 100000 /dev/urandom >"$T/stack.data/page"
    cat >"$T/stack.data/conf" <<'CONF'
worker_processes 2;
daemon off;
pid /run/nginx.pid;
error_log /data/error.log;
events { worker_connections 64; }
http {
    access_log off;
    client_header_timeout 600s;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 127.0.0.1:8080; root /data; }
}
CONF
    cat >"$T/stack.data/main" <<'MAIN'
PATH=/usr/lib/postgresql/15/bin:$PATH
postgres -D /data/db -k /tmp -c listen_addresses=127.0.0.1 -c shared_buffers=16MB -c fsync=off >/data/log 2>&1 &
memcached -l 127.0.0.1 -U 0 -m 16 &
nginx -c /data/conf &
until psql -h 127.0.0.1 postgres -c "create table t (n int)"; do sleep 0.5; done >/dev/null 2>&1
until exec 5<>/dev/tcp/127.0.0.1/11211; do sleep 0.2; done 2>/dev/null
until exec 6<>/dev/tcp/127.0.0.1/8080; do sleep 0.2; done 2>/dev/null
{ echo "begin; insert into t select generate_series(1, 1000);"
  until [ -e /data/go ]; do sleep 0.2; done
  echo "insert into t values (1001); commit; select count(*), sum(n) from t;"; } |
    psql -h 127.0.0.1 -At postgres >/data/session 2>&1 &
printf 'set first 0 0 5\r\nvalue\r\nset second 0 0 6\r\nsec' >&5
read -r stored <&5
printf 'GET /page HTTP/1.1\r\nHost: ' >&6
echo "$stored" >/data/stored
until [ -e /data/go ]; do sleep 0.2; done
printf 'ond\r\nget first second\r\nquit\r\n' >&5
cat <&5 >/data/cached
printf 'here\r\nConnection: close\r\n\r\n' >&6
cat <&6 >/data/answer
echo over >/data/over
wait
MAIN
    program stack 'exec bash /data/main 2>/data/main.log'
    wait_until 300 in_file "$D/session" "INSERT 0 1000" || {
        cat "$D/log" "$D/main.log"
        false
    }
    wait_until 60 in_file "$D/stored" STORED
    committed() { stasis exec "$1" psql -h 127.0.0.1 -At -U server postgres -c 'select count(*) from t'; }
    [ "$(committed stack)" = 0 ]
    move stack --tcp-established
    [ "$(committed stack-new)" = 0 ]
    touch "$D/go"
    wait_until 120 test -e "$D/over" || {
        cat "$D/main.log" "$D/log"
        false
    }
    printf 'STORED\r\nVALUE first 0 5\r\nvalue\r\nVALUE second 0 6\r\nsecond\r\nEND\r\n' | cmp - "$D/cached"
    head -n 1 "$D/answer" | grep -q '^HTTP/1.1 200 OK'
    tail -c 100000 "$D/answer" | cmp - "$D/page"
    wait_until 60 in_file "$D/session" "^1001|501501$"
    [ "$(committed stack-new)" = 1001 ]
}
