"""Measures servers over HTTP in turns, and puts the table into a page: measure.py edge|encode TARGET [FILE]

Each server is pinned to one core and wrk to the other. A turn is a run of wrk over 256 resources that are all
stored; what it costs is the time of the server's processes on the processor, by request.
"""

import datetime
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SET, TARGET = sys.argv[1:3]
FILE = sys.argv[3] if len(sys.argv) > 3 else None
ROUNDS, SECONDS, CONNECTIONS, RESOURCES = 9, 2, 32, 256
SERVER, LOAD = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")
BEGIN, END = f"<!-- {SET}: begin -->\n", f"<!-- {SET}: end -->"

work = tempfile.mkdtemp(prefix="edge-")
running = []


def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(core, command):
    log = open(f"{work}/log", "ab")
    process = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log, start_new_session=True)
    running.append(process)
    return process


def listening(at):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", at), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"measure.py: nothing listens on {at}: {open(f'{work}/log').read()[-2000:]}")


def processes(session):
    """The processes of a session: a server and its workers."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                yield name


def used(session):
    """Processor time of a session, in microseconds. `schedstat` has nanoseconds; `stat` has ticks."""
    total = 0
    for name in processes(session):
        for task in os.listdir(f"/proc/{name}/task"):
            try:
                total += int(open(f"/proc/{name}/task/{task}/schedstat").read().split()[0])
            except OSError:
                pass
    return total / 1000


def nginx(at, origin):
    path = f"{work}/nginx.conf"
    with open(path, "w") as conf:
        conf.write(f"""
user root; worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
    uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
    proxy_cache_path {work}/cache keys_zone=items:16m;
    server {{
        listen 127.0.0.1:{at};
        location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache items; }}
    }}
}}
""")
    return ["nginx", "-e", f"{work}/nginx.log", "-c", path]


def varnish(at, origin):
    return ["varnishd", "-F", "-a", f"127.0.0.1:{at}", "-b", f"127.0.0.1:{origin}", "-s", "malloc,64m", "-n", f"{work}/varnish"]


def load(name, at):
    """One run of wrk: requests, p50 and p99 in microseconds, and bytes of a response."""
    script = f"{work}/load.lua"
    with open(script, "w") as lua:
        lua.write(f"""
local next = 0
wrk.headers["Accept-Encoding"] = "gzip"
request = function() next = (next + 1) % {RESOURCES}; return wrk.format(nil, "/items/" .. next) end
done = function(summary, latency)
    local bad = summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout
    io.write(string.format("RESULT %d %d %d %d %d\\n",
        summary.requests, bad, latency:percentile(50), latency:percentile(99), summary.bytes / summary.requests))
end
""")
    command = ["taskset", "-c", LOAD, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script, f"http://127.0.0.1:{at}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, bad, p50, p99, length = map(int, re.search(r"RESULT" + r" (\d+)" * 5, out).groups())
    if bad or not requests:
        sys.exit(f"measure.py: {bad} of {requests} requests of {name} failed")
    return requests, p50, p99, length


def edge_commands():
    origin = port()
    start(LOAD, [f"{TARGET}/edge", "handler", str(origin)])
    listening(origin)
    return {
        "an empty axum handler": lambda at: [f"{TARGET}/edge", "handler", str(at)],
        "the cache in axum": lambda at: [f"{TARGET}/edge", "cache", str(at)],
        "the cache in `examples/reverse_proxy`": lambda at: [
            f"{TARGET}/example-reverse-proxy", "--origin", f"http://127.0.0.1:{origin}", "--listen", f"127.0.0.1:{at}"],
        "nginx `proxy_cache`": lambda at: nginx(at, origin),
        "Varnish": lambda at: varnish(at, origin),
    }


def encode_commands():
    return {
        "the plain form": lambda at: [f"{TARGET}/edge", "plain", str(at)],
        "the coded form, `.encode([ContentCoding::Gzip])`": lambda at: [f"{TARGET}/edge", "coded", str(at)],
        "the plain form within `CompressionLayer`": lambda at: [f"{TARGET}/edge", "compressed", str(at)],
    }


def servers():
    """Names, ports and sessions. All stand all the time, and rest while another is measured."""
    all = []
    for name, command in {"edge": edge_commands, "encode": encode_commands}[SET]().items():
        at = port()
        process = start(SERVER, command(at))
        listening(at)
        load(name, at)
        all.append((name, at, process.pid))
    return all


def measured():
    columns = {}
    all = servers()
    for turn in range(ROUNDS):
        for name, at, session in all:
            if sys.stderr.isatty():
                done = turn * 30 // ROUNDS
                print(f"\r[{'#' * done:.<30}] round {turn + 1} of {ROUNDS}, {name:<40}", end="", file=sys.stderr)
            before = used(session)
            requests, p50, p99, length = load(name, at)
            columns.setdefault(name, []).append(((used(session) - before) / requests, p50, p99, length))
    return columns


def version(command):
    found = subprocess.run(command, capture_output=True, text=True)
    return re.search(r"[\d]+\.[\d.]+[\d]", found.stdout + found.stderr).group()


def ratio(one, other):
    return statistics.median(a[0] / b[0] for a, b in zip(one, other))


def middle(samples):
    return [statistics.median(sample[i] for sample in samples) for i in range(4)]


def encode_table(columns):
    plain = next(iter(columns.values()))
    yield "| A hit of 30 KiB of JSON over HTTP/1.1 | CPU of the server, µs | of the plain form | bytes | p50, µs | p99, µs |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, one in columns.items():
        cpu, p50, p99, length = middle(one)
        yield f"| {name} | {cpu:.2f} | {ratio(one, plain):.2f} | {length:,.0f} | {p50:.0f} | {p99:.0f} |"


def edge_table(columns):
    names = list(columns)
    empty, edge = columns[names[0]], columns["nginx `proxy_cache`"]
    yield from ["| A hit over HTTP/1.1 | CPU of the server, µs | of the empty handler | of nginx | p50, µs | p99, µs |", "|---|--:|--:|--:|--:|--:|"]
    for name in names:
        one = columns[name]
        cpu, p50, p99, _ = middle(one)
        yield f"| {name} | {cpu:.2f} | {ratio(one, empty):.2f} | {ratio(one, edge):.2f} | {p50:.0f} | {p99:.0f} |"


def table(columns):
    lines = list({"edge": edge_table, "encode": encode_table}[SET](columns))
    programs = [("wrk", ["wrk", "-v"])]
    if SET == "edge":
        programs = [("nginx", ["nginx", "-v"]), ("Varnish", ["varnishd", "-V"]), *programs]
    versions = ", ".join(f"{name} {version(command)}" for name, command in programs)
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines.append("")
    lines.append(
        f"<sub>Measured {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores of "
        f"{model.group(1) if model else platform.machine()}, {platform.system()} {platform.release()}; {version(['rustc', '--version'])} (rustc), "
        f"{versions}; commit {commit}; load average "
        f"{os.getloadavg()[0]:.1f}. {ROUNDS} rounds of {SECONDS} s, {CONNECTIONS} connections; ratios are of the same round, then the median. "
        f"By `bash benches/{SET}.sh`.</sub>")
    return "\n".join(lines) + "\n"


def write(text):
    before, rest = open(FILE).read().split(BEGIN)
    after = rest.split(END)[1]
    open(FILE, "w").write(before + BEGIN + text + END + after)


try:
    made = table(measured())
    print("\n" + made)
    if FILE:
        write(made)
finally:
    for process in running:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # Varnish's child has a group of its own in the same session.
        for name in list(processes(process.pid)):
            os.kill(int(name), signal.SIGKILL)
    shutil.rmtree(work, ignore_errors=True)
