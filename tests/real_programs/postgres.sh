# A server, and four clients whose transactions are counted, run after run until the test has seen enough.
set -e
cd /state
initdb -D data -A trust -U postgres >initdb.log 2>&1
postgres -D data -c listen_addresses= -c unix_socket_directories=/state >server.log 2>&1 &
export PGHOST=/state PGUSER=postgres
until pg_isready -q; do sleep 0.1; done
createdb bench
pgbench -q -i -s 4 bench >init.log 2>&1
echo ok >ready
done=0
while [ ! -e enough ]; do
  pgbench -n -c 4 -j 2 -t 1000 bench >run.log 2>&1 || { cat run.log >>.report; break; }
  grep -q 'failed transactions: 0 ' run.log || cat run.log >>.report
  done=$((done + $(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' run.log)))
done
ask() { psql -q -A -t -d bench -c "$1"; }
history=$(ask 'select count(*) from pgbench_history')
[ "$history" = "$done" ] || echo "$done transactions were committed, $history are there" >>.report
sums=$(ask 'select count(distinct sum) from (select sum(abalance) from pgbench_accounts
  union all select sum(bbalance) from pgbench_branches union all select sum(tbalance) from pgbench_tellers
  union all select sum(delta) from pgbench_history) as sums')
[ "$sums" = 1 ] || echo "the balances do not agree: $sums sums" >>.report
pg_amcheck --all --heapallindexed --install-missing >amcheck.log 2>&1 || cat amcheck.log >>.report
[ -s .report ] || echo ok >.report
mv .report report
wait
