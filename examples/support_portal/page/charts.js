// The four live charts. Each is drawn on a canvas by uPlot; what it says in words is in the page.

/* global uPlot */

const HEIGHT = 152;
const SAMPLES = 120;
const FIRST_SECONDS = 30;
const REQUESTS = 40;
const FASTEST_MS = 0.5;
const FONT = '11px system-ui, sans-serif';

// Read while drawing, so that a chart follows the colour scheme.
const styles = getComputedStyle(document.documentElement);
const colour = (name) => () => styles.getPropertyValue(name).trim();

const axis = {
  stroke: colour('--quiet'),
  font: FONT,
  ticks: { show: false },
  grid: { stroke: colour('--line'), width: 1 },
};
const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

function chart(id, { series, scales, axes }) {
  const element = document.getElementById(id);
  const plot = new uPlot(
    {
      width: element.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      series: [{}, ...series],
      scales,
      axes,
    },
    [[], ...series.map(() => [])],
    element,
  );
  new ResizeObserver(() => {
    plot.setSize({ width: element.clientWidth, height: HEIGHT });
  }).observe(element);
  return plot;
}

// ===== Over time =====

// The axis grows with what there is to show, up to two minutes.
const overTime = {
  x: {
    time: false,
    range: (plot, _, now) => {
      const shown = Math.max(FIRST_SECONDS, plot.data[0].length - 1);
      return [(now ?? 0) - shown, now ?? 0];
    },
  },
};

const timeAxis = {
  ...axis,
  size: 30,
  gap: 9,
  grid: { show: false },
  splits: ({ scales: { x } }) => [x.min, (x.min + x.max) / 2, x.max],
  values: ({ scales: { x } }, ticks) => ticks.map((tick) => (tick === x.max ? 'now' : `−${Math.round(x.max - tick)} s`)),
};

function countAxis() {
  return {
    ...axis,
    size: 54,
    space: 28,
    incrs: whole,
    values: (_, ticks) => ticks.map((tick) => tick.toLocaleString('en')),
  };
}

function line(name, { fill } = {}) {
  return {
    stroke: colour(name),
    fill: fill && colour(fill),
    width: 2,
    points: { show: false },
  };
}

/// A range that a few calls are visible in.
function around(_, low, high) {
  if (low == null) return [0, 10];
  const room = Math.max(5, Math.ceil((high - low) * 0.15));
  return [Math.max(0, low - room), high + room];
}

// ===== Each request =====

const points = (name, { filled }) => ({
  stroke: colour(name),
  paths: () => null,
  points: {
    show: true,
    size: 8,
    width: 2,
    stroke: colour(name),
    fill: filled ? colour(name) : colour('--card'),
  },
});

const lastRequests = (_, __, last) => [
  Math.max(0, (last ?? 0) - REQUESTS),
  Math.max(REQUESTS, last ?? 0) + 1,
];
const numbered = (_, ticks) => ticks.map((tick) => (tick ? `#${tick}` : ''));
const DURATIONS = { 1: '1 ms', 10: '10 ms', 100: '100 ms', 1000: '1 s' };
const inDurations = (_, ticks) => ticks.map((tick) => (tick in DURATIONS ? tick : null));
const durations = (_, ticks) => ticks.map((tick) => DURATIONS[tick] ?? '');

/// Draws the charts, empty; `sample` and `request` add to them.
export function draw() {
  const latency = chart('latency', {
    series: [points('--hit', { filled: true }), points('--miss', { filled: false })],
    scales: {
      x: { time: false, range: lastRequests },
      // Logarithmic: a hit and a miss are two orders of magnitude apart.
      y: { distr: 3, range: [FASTEST_MS, 2000] },
    },
    axes: [
      { ...axis, size: 30, gap: 9, grid: { show: false }, incrs: whole, space: 60, values: numbered },
      { ...axis, size: 54, filter: inDurations, grid: { ...axis.grid, filter: inDurations }, values: durations },
    ],
  });
  const ratio = chart('ratio', {
    series: [line('--hit', { fill: '--hit-wash' })],
    scales: { ...overTime, y: { range: [0, 100] } },
    axes: [timeAxis, { ...axis, size: 54, space: 28, values: (_, ticks) => ticks.map((tick) => `${tick} %`) }],
  });
  const calls = chart('calls', {
    series: [line('--hit', { fill: '--hit-wash' }), line('--miss')],
    scales: { ...overTime, y: { range: (_, __, high) => [0, Math.max(10, Math.ceil((high ?? 0) * 1.15))] } },
    axes: [timeAxis, countAxis()],
  });
  const quota = chart('quota', {
    series: [line('--accent', { fill: '--accent-wash' })],
    scales: { ...overTime, y: { range: around } },
    axes: [timeAxis, countAxis()],
  });
  const all = [latency, ratio, calls, quota];
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    for (const plot of all) plot.redraw(false, true);
  });
  return new Charts({ latency, ratio, calls, quota });
}

class Charts {
  constructor(plots) {
    this.plots = plots;
    this.isPaused = false;
    this.second = 0;
    this.samples = [];
    this.requests = [];
  }

  /// Adds what the portal has counted, once a second.
  sample({ ratio, made, saved, left }) {
    this.second += 1;
    this.samples.push([this.second, ratio, saved, made, left]);
    this.samples.splice(0, this.samples.length - SAMPLES);
    this.show();
  }

  /// Adds one read that was a hit or was forwarded.
  request({ ms, isHit, number }) {
    const shown = Math.max(FASTEST_MS, ms);
    this.requests.push([number, isHit ? shown : null, isHit ? null : shown]);
    this.requests.splice(0, this.requests.length - REQUESTS);
    this.show();
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.show();
  }

  show() {
    if (this.isPaused) return;
    const column = (rows, index) => rows.map((row) => row[index]);
    const seconds = column(this.samples, 0);
    const { latency, ratio, calls, quota } = this.plots;
    latency.setData([0, 1, 2].map((index) => column(this.requests, index)));
    ratio.setData([seconds, column(this.samples, 1)]);
    calls.setData([seconds, column(this.samples, 2), column(this.samples, 3)]);
    quota.setData([seconds, column(this.samples, 4)]);
  }
}
