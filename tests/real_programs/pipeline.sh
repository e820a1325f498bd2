# Eight processes with pipes between them; then the same is computed again, undisturbed.
cd /state
numbers() {
  made=0
  while [ ! -e enough ]; do
    seq $((made + 1)) $((made += 50000))
  done
  echo $made >made
}
through() { sed 's/7/x/' | awk '{ s += length($0); print s, $0 }' | tr x y | tee >(sha256sum >"$1.side") | sha256sum; }
echo ok >ready
frozen=$(numbers | through frozen)
plain=$(seq 1 "$(cat made)" | through plain)
sleep 0.2
[ "$frozen" = "$plain" ] || echo "$(cat made) numbers: $frozen is not $plain" >>.report
cmp frozen.side plain.side >>.report 2>&1
[ -s .report ] || echo ok >.report
mv .report report
sleep infinity
