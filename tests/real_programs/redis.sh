# A server, and two clients over TCP that count up: every reply must be there, and none may have been counted twice.
cd /state
redis-server --port 6379 --bind 127.0.0.1 --save '' --appendonly no --dir /state >server.log 2>&1 &
until redis-cli ping >/dev/null 2>&1; do sleep 0.1; done
count() {
  while [ ! -e enough ]; do
    redis-cli -r 50000 incr "counter:$1" >"replies.$1" || echo "client $1 ended with $?" >>.report
    asked=$((asked + 50000))
    last=$(tail -n 1 "replies.$1")
    [ "$last" = "$asked" ] || echo "client $1 asked $asked times, and was told $last" >>.report
    [ "$(wc -l <"replies.$1")" = 50000 ] || echo "client $1 had $(wc -l <"replies.$1") replies" >>.report
  done
}
count 1 &
first=$!
count 2 &
second=$!
echo ok >ready
wait $first $second
redis-cli save >/dev/null
redis-check-rdb dump.rdb >rdb.log || cat rdb.log >>.report
[ -s .report ] || echo ok >.report
mv .report report
wait
