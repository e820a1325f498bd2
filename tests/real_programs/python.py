"""Threads that write to one sqlite database, each into a table of its own, and remember what was committed."""
import os
import sqlite3
import threading

THREADS = 6
committed = {}
notes = []
# sqlite lets one thread wait for long while others come and go: each has its turn before it counts.
begun = threading.Barrier(THREADS + 1)


def writer(number):
    database = sqlite3.connect("/state/data.db", timeout=60)
    database.execute(f"create table t{number} (row integer, square integer)")
    row = 0
    while not os.path.exists("/state/enough"):
        with database:
            database.execute(f"insert into t{number} values (?, ?)", (row, row * row))
        committed[number] = row
        row += 1
        if row == 1:
            begun.wait()
    database.close()


def look():
    database = sqlite3.connect("/state/data.db")
    (verdict,) = database.execute("pragma integrity_check").fetchone()
    if verdict != "ok":
        notes.append(verdict)
    for number, last in committed.items():
        rows = database.execute(f"select row, square from t{number} order by row").fetchall()
        if rows != [(row, row * row) for row in range(last + 1)]:
            notes.append(f"table {number} has {len(rows)} rows, {last + 1} were committed")


database = sqlite3.connect("/state/data.db")
database.execute("pragma journal_mode = wal")
database.close()
threads = [threading.Thread(target=writer, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
begun.wait()
with open("/state/ready", "w") as file:
    file.write("ok")
for thread in threads:
    thread.join()
look()
with open("/state/.report", "w") as file:
    file.write("\n".join(notes) or "ok")
os.rename("/state/.report", "/state/report")
threading.Event().wait()
