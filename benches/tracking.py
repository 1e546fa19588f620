#!/usr/bin/env python3
"""Measures what the link of each process costs a Redis server: memory of connections and of CLIENT TRACKING, and the
server's time for a change of a key that all have read, for a heartbeat, and for a hit. Prints a table for docs/guide/processes.md.

    benches/tracking.py [PROCESSES...]        by default 1, 50, 100, 200, 400
"""
import resource
import socket
import subprocess
import sys
import time

KEYS = 1000
ROUNDS = 200
SCRIPT = "src/store/redis/link/scripts/enter.lua"


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.reader = self.socket.makefile("rb")

    def send(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))

    def read(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and int(rest) >= 0:
            return self.reader.read(int(rest) + 2)[:-2]
        if kind in b"*>~":
            return kind, [self.read() for _ in range(int(rest))]
        if kind == b"%":
            return [self.read() for _ in range(2 * int(rest))]
        return rest

    def ask(self, *words):
        self.send(*words)
        return self.read()


def info(connection, section):
    lines = connection.ask("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def spent(connection):
    cpu = info(connection, "cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def used(connection):
    return int(info(connection, "memory")["used_memory"])


def measure(port, processes, script):
    operator = Connection(port)
    operator.ask("FLUSHALL")
    for key in range(KEYS):
        operator.ask("HSET", f"case:{key}", "v:" + "0" * 32, "x" * 1254)
    before = used(operator)
    links = [Connection(port) for _ in range(processes)]
    for link in links:
        link.ask("HELLO", 3)
    connected = used(operator)
    for link in links:
        link.ask("CLIENT", "TRACKING", "ON")
        for key in range(KEYS):
            link.send("HGET", f"case:{key}", "v:" + "0" * 32)
        for key in range(KEYS):
            link.read()
    tracked = used(operator)
    begun = spent(operator)
    for key in range(ROUNDS):
        operator.ask("UNLINK", f"case:{key}")
    changes = spent(operator) - begun
    for link in links:
        for _ in range(ROUNDS):
            link.read()
    begun = spent(operator)
    for _ in range(5):
        for link in links:
            link.send("INFO", "server")
            link.send("INFO", "replication")
            link.send("TIME")
            link.send("EVAL", script, 2, "epoch", "heartbeats:{epoch}", "0123456789abcdef", 300, 60000)
        for link in links:
            # The first writes, and the rest is told.
            replies = 0
            while replies < 4:
                reply = link.read()
                replies += not (isinstance(reply, tuple) and reply[0] == b">")
    beats = (spent(operator) - begun) / 5 / processes
    for link in links:
        link.socket.close()
    return (
        (connected - before) / processes,
        (tracked - connected) / processes / KEYS,
        changes / ROUNDS / processes,
        beats,
    )


def main():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    script = open(SCRIPT).read()
    print("| Processes | A connection | A key that a process has read | A message to a process | A heartbeat |")
    print("|---|---|---|---|---|")
    for processes in [int(word) for word in sys.argv[1:]] or [1, 50, 100, 200, 400]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--tracking-table-max-keys", "0"],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                try:
                    Connection(port).ask("PING")
                    break
                except OSError:
                    time.sleep(0.01)
            link, key, message, beat = measure(port, processes, script)
            print(f"| {processes} | {link / 1024:.1f} KiB | {key:.0f} bytes | {message * 1e6:.2f} µs | {beat * 1e6:.0f} µs |")
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
