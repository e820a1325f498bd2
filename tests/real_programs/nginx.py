"""Four clients of nginx: each asks for a page of 300 kB again and again by the connection that it made first."""
import hashlib
import http.client
import os
import threading
import time

PAGE = hashlib.sha256(open("/state/html/page", "rb").read()).hexdigest()
notes = []


def client(number):
    connection = http.client.HTTPConnection("127.0.0.1", 8080)
    for _ in range(100):
        try:
            connection.connect()
            break
        except OSError:
            time.sleep(0.1)
    # A lost connection is an error here, and not made anew behind our back.
    connection.auto_open = 0
    numbers = set()
    request = 0
    while not os.path.exists("/state/enough"):
        request += 1
        try:
            connection.request("GET", "/page")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            notes.append(f"client {number}, request {request}: {error!r}")
            return
        numbers.add(answer.headers["X-Connection"])
        if answer.status != 200 or hashlib.sha256(body).hexdigest() != PAGE:
            notes.append(f"client {number}, request {request}: {answer.status}, {len(body)} bytes that are not the page")
            return
    if len(numbers) != 1:
        notes.append(f"client {number} had the connections {numbers}")


threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
with open("/state/ready", "w") as file:
    file.write("ok")
for thread in threads:
    thread.join()
with open("/state/.report", "w") as file:
    file.write("\n".join(notes) or "ok")
os.rename("/state/.report", "/state/report")
