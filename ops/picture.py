#!/usr/bin/env python3
"""Runs the portal under load for two minutes, has a real Prometheus scrape it, and draws its series.

    python3 ops/picture.py docs/guide/series.svg

The panels are those of the dashboard (ops/grafana), by their queries. Redis is away for a while, and back.
Needs cargo, redis-server and prometheus.
"""

import html
import http.client
import json
import math
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 120
AWAY = (50, 70)
STEP = 2
READS_A_SECOND = 60
ACCOUNTS = [f"A{number}" for number in range(1, 61)]
# Title of a panel, its unit, and the factor by which a value is multiplied.
PANELS = [
    ("Requests by outcome", "requests a second", 1),
    ("Hit ratio", "%", 100),
    ("Time of origin requests", "ms", 1000),
    ("Origin time saved", "s saved in a second", 1),
    ("Invalidations", "keys a second", 1),
    ("Link and breaker", "1: yes", 1),
]
COLOURS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781"]
WIDTH, HEIGHT, LEFT, TOP, GAP = 450, 200, 44, 56, 20


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, method, target, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, target, headers=fields)
    body = connection.getresponse().read()
    connection.close()
    return body


def until(check):
    for _ in range(300):
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("a server does not start")


# ===== load =====


def read(port):
    """Asks for a page, the first accounts most of all."""
    account = ACCOUNTS[min(int(random.expovariate(0.12)), len(ACCOUNTS) - 1)]
    token = {"authorization": f"Bearer demo-{account}"}
    try:
        ask(port, "GET", f"/accounts/{account}/cases", **token)
    except OSError:
        print("a request has failed", file=sys.stderr)


def write(port):
    account = random.choice(ACCOUNTS[:20])
    token = {"authorization": f"Bearer demo-{account}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"/accounts/{account}/cases", '{"subject":"x","text":"y"}', token)
    connection.getresponse().read()


def load(port, end):
    while time.time() < end:
        began = time.time()
        threading.Thread(target=read, args=(port,), daemon=True).start()
        if random.random() < 1.5 / READS_A_SECOND:
            threading.Thread(target=write, args=(port,), daemon=True).start()
        time.sleep(max(0, 1 / READS_A_SECOND - (time.time() - began)))


# ===== queries =====


def queries():
    dashboard = json.loads((ROOT / "ops/grafana/tower-support-cache.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "10s")
            query = query.replace("$cache", ".*").replace("$bucket", "case_list")
            yield panel["title"], query, target.get("legendFormat", "")


def series(port, start, title):
    """Returns the names and points of a panel's series."""
    found = []
    for of, query, legend in queries():
        if of != title:
            continue
        asked = {"query": query, "start": start, "end": start + SECONDS, "step": STEP}
        answer = ask(port, "GET", "/api/v1/query_range?" + urllib.parse.urlencode(asked))
        for one in json.loads(answer)["data"]["result"]:
            name = legend
            for label, value in one["metric"].items():
                name = name.replace("{{" + label + "}}", "" if label == "instance" else value).strip()
            points = [(at - start, float(value)) for at, value in one["values"]]
            found.append((name, [point for point in points if math.isfinite(point[1])]))
    return [one for one in found if any(value for _, value in one[1])]


# ===== drawing =====


def text(x, y, words, extra=""):
    return f'<text x="{x:.0f}" y="{y:.0f}"{extra}>{html.escape(words)}</text>'


def nice(top):
    """Returns the least round number that is not below."""
    power = 10 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= top)


def draw(panel, found):
    title, unit, factor = panel
    top = nice(max([value * factor for _, points in found for _, value in points] or [1]))
    across = lambda at: LEFT + at / SECONDS * (WIDTH - LEFT)
    up = lambda value: HEIGHT - (HEIGHT - TOP) * value / top
    begin, end = map(across, AWAY)
    out = [text(0, 12, title, ' font-weight="600"'), text(LEFT, TOP - 8, unit)]
    out.append(f'<path d="M{begin:.0f} {TOP}H{end:.0f}V{HEIGHT}H{begin:.0f}z" opacity=".1"/>')
    for part in range(5):
        value = top * part / 4
        out.append(f'<path d="M{LEFT} {up(value):.1f}H{WIDTH}" stroke="currentColor" opacity=".2"/>')
        out.append(text(LEFT - 6, up(value) + 4, f"{value:g}", ' text-anchor="end"'))
    for at in range(0, SECONDS + 1, 30):
        anchor = "end" if at == SECONDS else "middle"
        out.append(text(across(at), HEIGHT + 16, f"{at} s", f' text-anchor="{anchor}"'))
    x = LEFT
    for colour, (name, points) in zip(COLOURS, found):
        path = "L".join(f"{across(at):.0f} {up(value * factor):.1f}" for at, value in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<path d="M{x} 23h12" stroke="{colour}" stroke-width="3"/>')
        out.append(text(x + 16, 27, name))
        x += 28 + 6.2 * len(name)
    return "".join(out)


def picture(panels):
    rows = math.ceil(len(panels) / 2)
    width, height = 2 * WIDTH + 3 * GAP, rows * (HEIGHT + 40) + GAP
    alternative = "Series of the support portal in two minutes; grey: Redis is away"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' style="max-width:100%;height:auto" fill="currentColor" font-size="11"'
        f' font-family="sans-serif"><title>{alternative}</title>'
    ]
    for place, panel in enumerate(panels):
        x, y = GAP + place % 2 * (WIDTH + GAP), GAP + place // 2 * (HEIGHT + 40)
        out.append(f'<g transform="translate({x} {y})">{panel}</g>')
    return "\n".join([*out, "</svg>\n"])


# ===== processes =====


def main():
    build = ["cargo", "build", "--quiet", "-p", "example-prometheus"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = json.loads(subprocess.check_output(["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT))
    portal_program = f"{target['target_directory']}/debug/prometheus"
    work, running = tempfile.mkdtemp(), []
    redis_port, portal_port, port = free_port(), free_port(), free_port()

    def start(*command, **variables):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen(command, env=variables or None, **quiet))
        return running[-1]

    redis = ["redis-server", "--save", "", "--port", str(redis_port), "--dir", work]
    config = pathlib.Path(work, "prometheus.yml")
    config.write_text(
        "global: { scrape_interval: 1s }\nscrape_configs:\n  - job_name: portal\n"
        "    metrics_path: /metrics/prometheus\n"
        f"    static_configs: [{{ targets: ['127.0.0.1:{portal_port}'] }}]\n"
    )
    try:
        server = start(*redis)
        until(lambda: socket.create_connection(("127.0.0.1", redis_port)))
        start(portal_program, PORT=str(portal_port), REDIS_URL=f"redis://127.0.0.1:{redis_port}/")
        until(lambda: b"store_linked 1" in ask(portal_port, "GET", "/metrics/prometheus"))
        start(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={work}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        until(lambda: b"Ready" in ask(port, "GET", "/-/ready"))
        began = time.time()
        threading.Thread(target=load, args=(portal_port, began + SECONDS), daemon=True).start()
        time.sleep(AWAY[0])
        server.kill()
        time.sleep(AWAY[1] - AWAY[0])
        start(*redis)
        time.sleep(began + SECONDS - time.time() + 2)
        panels = [draw(panel, series(port, began, panel[0])) for panel in PANELS]
        pathlib.Path(sys.argv[1]).write_text(picture(panels))
    finally:
        for process in running:
            process.kill()


main()
