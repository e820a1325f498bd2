# Stressors that check what they computed: one that finds an error ends with another status than 0.
cd /state
echo ok >ready
while [ ! -e enough ]; do
  stress-ng --verify --temp-path /state --cpu 2 --cpu-ops 60 --matrix 1 --matrix-ops 600 --vm 1 --vm-bytes 32m \
    --vm-ops 6000 --pipe 1 --pipe-ops 40000 --mutex 1 --mutex-ops 6000 --shm 1 --shm-ops 20 --qsort 1 --qsort-ops 4 \
    --zlib 1 --zlib-ops 10 --msg 1 --msg-ops 20000 --timer 1 --timer-ops 2000 >run.log 2>&1 ||
    { cat run.log; echo "stress-ng ended with $?"; } >>.report
done
[ -s .report ] || echo ok >.report
mv .report report
sleep infinity
