// Wires the page: the portal on the left, what the cache does on the right, each request below.

import { ask, milliseconds, onRequest, outcomeOf } from '/page/api.js';
import { draw } from '/page/charts.js';

const SAMPLE_EVERY_MS = 1000;
const LOG_LENGTH = 7;
const BURST = 200;

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString('en');
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;

function element(name, { text, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/// Runs what a control does, and says so where the portal does not answer or refuses.
function safely(status, work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      $(status).textContent = explain(error);
    }
  };
}

/// `fetch` rejects with a `TypeError` where nothing answers.
const explain = (error) => (
  error instanceof TypeError ? 'The portal does not answer. Is it still running?' : error.message
);

function expectOk(answer) {
  if (!answer.ok) throw new Error(`${answer.status}: ${answer.body}`);
  return answer.body;
}

/// Disables a button while its work is under way, and returns the focus to it.
async function busy(button, text, work) {
  const before = button.textContent;
  button.textContent = text;
  button.setAttribute('aria-disabled', 'true');
  try {
    await work();
  } finally {
    button.textContent = before;
    button.removeAttribute('aria-disabled');
  }
}

const isBusy = (button) => button.hasAttribute('aria-disabled');

// ===== The portal =====

// What is chosen. An answer that comes after another choice is not shown.
let account = null;
let chosen = null;

let actions = 0;

/// Says what came of an action, unless another has begun since.
function telling(before, work) {
  return async (...given) => {
    actions += 1;
    const own = actions;
    $('said').textContent = before;
    const told = await work(...given).catch(explain);
    if (own === actions) $('said').textContent = told;
  };
}

const describe = (what, { outcome, ms }) => `${what}: ${outcome}, ${milliseconds(ms)}`;

async function readCases() {
  const asked = account;
  const answer = await ask(asked, 'GET', `/accounts/${asked}/cases`);
  const { cases } = expectOk(answer);
  if (asked === account) showCases(cases);
  return describe(`Cases of ${asked}`, answer);
}

function showCases(cases) {
  const focused = document.activeElement?.dataset?.case;
  $('cases').replaceChildren(...cases.map((one) => {
    const button = element(
      'button',
      { type: 'button', className: 'case' },
      element('span', { className: 'subject', text: one.subject }),
      element('span', { className: 'about', text: `${one.case} · ${plural(one.messages, 'message')}` }),
      element('span', { className: `state ${one.status}`, text: one.status }),
    );
    button.dataset.case = one.case;
    button.addEventListener('click', () => choose(one));
    return element('li', {}, button);
  }));
  markChosen();
  if (focused) $('cases').querySelector(`[data-case="${focused}"]`)?.focus();
}

function markChosen() {
  for (const button of $('cases').querySelectorAll('button')) {
    if (button.dataset.case === chosen) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }
}

async function readMessages() {
  const [asked, one] = [account, chosen];
  const answer = await ask(asked, 'GET', `/accounts/${asked}/cases/${one}/messages`);
  const { messages } = expectOk(answer);
  if (one === chosen) showMessages(messages);
  return describe(`Messages of ${one}`, answer);
}

function showMessages(messages) {
  $('messages').replaceChildren(...messages.map(({ author, text }) => element(
    'li',
    { className: author === 'support' ? 'support' : 'own' },
    element('span', { className: 'author', text: author === 'support' ? 'Support' : `You (${author})` }),
    element('p', { text }),
  )));
}

function leaveCase() {
  chosen = null;
  $('messages-title').textContent = 'Messages';
  $('no-case').hidden = false;
  $('messages').replaceChildren();
  $('comment').hidden = true;
}

const choose = telling('Reading…', (one) => {
  if (chosen !== one.case) {
    leaveCase();
    chosen = one.case;
    $('messages-title').textContent = `Messages of ${one.case}`;
    $('no-case').hidden = true;
    $('comment').hidden = false;
    markChosen();
  }
  return readMessages();
});

const pickAccount = telling('Reading…', () => {
  account = $('account').value;
  leaveCase();
  $('cases').replaceChildren();
  return readCases();
});

const readAgain = telling('Reading…', async () => {
  const reads = [readCases()];
  if (chosen) reads.push(readMessages());
  return (await Promise.all(reads)).join(' · ');
});

const comment = telling('Sending…', async () => {
  const [own, one] = [account, chosen];
  const text = $('text').value.trim();
  if (!text) return 'The comment is empty.';
  expectOk(await ask(own, 'POST', `/accounts/${own}/cases/${one}/comments`, { text }));
  $('text').value = '';
  if (one !== chosen) return `Your comment on ${one} is there.`;
  const read = await Promise.all([readMessages(), readCases()]);
  if (one === chosen) $('messages').lastElementChild?.classList.add('new');
  return `Your comment is there. ${read.join(' · ')}`;
});

function wirePortal() {
  $('account').addEventListener('change', pickAccount);
  $('again').addEventListener('click', readAgain);
  $('comment').addEventListener('submit', (event) => {
    event.preventDefault();
    const button = event.submitter ?? $('comment').querySelector('button');
    if (!isBusy(button)) busy(button, 'Sending…', comment);
  });
}

// ===== Each request =====

const latencies = { hit: [], collapsed: [], miss: [], bypass: [], write: [] };
let reads = 0;

function logRequest({ method, path, outcome, ms, cacheStatus }, times = 1) {
  $('no-log').hidden = true;
  $('log').prepend(element(
    'li',
    {},
    element('span', { className: `badge ${outcome}`, text: outcome }),
    element('span', { className: 'ms', text: milliseconds(ms) }),
    element('span', { className: 'asked', text: `${times > 1 ? `${times} × ` : ''}${method} ${path}` }),
    element('code', { text: cacheStatus }),
  ));
  while ($('log').children.length > LOG_LENGTH) $('log').lastElementChild.remove();
}

// ===== Charts =====

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

const orNone = (value, shown) => (value === null ? 'none yet' : shown(value));

/// Sums what the cache has counted over the buckets.
function totals({ cache, crm }) {
  const sum = (of) => Object.values(cache.buckets).reduce((all, bucket) => all + of(bucket), 0);
  const all = (reasons) => Object.values(reasons).reduce((a, b) => a + b, 0);
  const bypassed = sum((bucket) => all(bucket.bypassed));
  const hits = sum((bucket) => bucket.hits + all(bucket.stale));
  const collapsed = sum((bucket) => bucket.coalesced);
  const read = hits + collapsed + bypassed + sum((bucket) => bucket.misses);
  return {
    hits,
    collapsed,
    bypassed,
    reads: read,
    saved: hits + collapsed,
    ratio: read ? (100 * (hits + collapsed)) / read : null,
    made: crm.calls,
    left: crm.left,
    aDay: crm.calls_a_day,
    budget: cache.origin,
  };
}

function showNumbers(now) {
  const hit = median(latencies.hit);
  const miss = median([...latencies.miss, ...latencies.bypass]);
  const ratio = orNone(now.ratio, (share) => `${share.toFixed(share > 99 && share < 100 ? 1 : 0)} %`);
  fill('latency-value', [part('hit', orNone(hit, milliseconds), 'hit'), part('miss', orNone(miss, milliseconds), 'miss')]);
  fill('ratio-value', [ratio]);
  $('ratio-note').textContent = `${count(now.saved)} of ${plural(now.reads, 'read')} needed no call of their own`;
  fill('calls-value', [part('miss', count(now.made), 'made'), part('hit', count(now.saved), 'saved')]);
  fill('quota-value', [count(now.left)]);
  $('quota-note').textContent = `left of ${count(now.aDay)} calls today`;
  const rows = {
    'Latency of a hit, median': orNone(hit, milliseconds),
    'Latency of a miss, median': orNone(miss, milliseconds),
    'Hit ratio': ratio,
    'Reads': count(now.reads),
    'Reads answered from the store': count(now.hits),
    'Reads that shared another’s call': count(now.collapsed),
    'Reads that bypassed the cache': count(now.bypassed),
    'CRM calls made': count(now.made),
    'CRM calls saved': count(now.saved),
    'CRM calls left today': `${count(now.left)} of ${count(now.aDay)}`,
    'CRM calls that may be made at once': `${count(now.budget.calls_left)} of ${count(now.budget.burst)}`,
    'Early refreshes spared': count(now.budget.spared['early-refresh'] ?? 0),
    'Revalidations spared': count(now.budget.spared.revalidation ?? 0),
    'Reads answered stale instead of a call': count(now.budget.spared.stale ?? 0),
  };
  $('numbers').replaceChildren(...Object.entries(rows).map(([name, value]) => element(
    'tr', {}, element('th', { scope: 'row', text: name }), element('td', { text: value }),
  )));
}

const part = (kind, text, unit) => element(
  'span', { className: `part ${kind}` }, element('span', { text }), ' ', element('small', { text: unit }),
);

const fill = (id, parts) => $(id).replaceChildren(...parts);

async function sample(charts) {
  if (document.hidden) return;
  const response = await fetch('/metrics', { cache: 'no-store' });
  const metrics = await response.json();
  if (charts.isPaused) return;
  const now = totals(metrics);
  charts.sample(now);
  showNumbers(now);
  showBuckets(metrics.cache.buckets);
  showProcesses(metrics.processes);
}

/// There are several only on a Redis.
function showProcesses(processes) {
  $('processes').hidden = processes.length === 0;
  $('processes-rows').replaceChildren(...processes.map(({ name, is_this: isThis, hits, calls, store }) => {
    const commands = Object.values(store.operations).reduce((all, number) => all + number, 0);
    const link = store.is_linked ? (store.near.is_proven ? 'proven' : 'near cache silent') : 'lost';
    const cells = [link, ...[hits, store.near.hits, commands, store.pending, calls].map(count)];
    return element(
      'tr',
      {},
      element('th', { scope: 'row', text: `${name.replace('http://', '')}${isThis ? ' (this one)' : ''}` }),
      ...cells.map((text) => element('td', { text })),
    );
  }));
}

function wireCharts() {
  const charts = draw();
  onRequest((answer) => {
    if (!answer.outcome) return;
    logRequest(answer);
    latencies[answer.outcome].push(answer.ms);
    if (!['hit', 'miss', 'bypass'].includes(answer.outcome)) return;
    reads += 1;
    charts.request({ ms: answer.ms, isHit: answer.outcome === 'hit', number: reads });
  });
  $('pause').addEventListener('click', () => {
    charts.pause(!charts.isPaused);
    $('pause').textContent = charts.isPaused ? 'Resume charts' : 'Pause charts';
  });
  // One after the other: a sample that waits for a slow answer is not overtaken.
  const next = async () => {
    try {
      await sample(charts);
      $('lost').hidden = true;
    } catch {
      $('lost').hidden = false;
    }
    setTimeout(next, SAMPLE_EVERY_MS);
  };
  next();
}

// ===== 200 at once =====

function showDots(groups) {
  fill('dots', groups.flatMap(({ outcome, requests }) => (
    Array.from({ length: requests }, () => element('i', { className: outcome }))
  )));
}

const noDots = [{ outcome: '', requests: BURST }];

const burst = safely('burst', async () => {
  const asked = account;
  $('burst').textContent = '';
  showDots(noDots);
  const { calls, requests, answers, statuses } = expectOk(await ask(asked, 'POST', `/demo/accounts/${asked}/burst`));
  const groups = answers
    .map((group) => ({ ...group, outcome: outcomeOf(group.cache_status) ?? 'none' }))
    .sort((one, other) => one.requests - other.requests);
  showDots(groups);
  for (const { outcome, requests: times, slowest_ms: ms, cache_status: cacheStatus } of groups) {
    logRequest({ method: 'GET', path: `/accounts/${asked}/cases`, outcome, ms, cacheStatus }, times);
  }
  const number = (kinds) => groups.filter(({ outcome }) => kinds.includes(outcome)).reduce((all, group) => all + group.requests, 0);
  const slowest = Math.max(...groups.map((group) => group.slowest_ms));
  fill('burst', [
    element('strong', { text: `${plural(calls, 'call')} to the CRM` }),
    ` for ${plural(requests, 'request')}. ${count(number(['collapsed', 'hit']))} shared an answer, ${count(statuses['200'] ?? 0)} succeeded, and the slowest took ${milliseconds(slowest)}.`,
  ]);
});

function wireBurst() {
  showDots(noDots);
  $('send').addEventListener('click', () => {
    if (!isBusy($('send'))) busy($('send'), 'Sending…', burst);
  });
}

// ===== Switches =====

const title = (bucket) => {
  const words = bucket.replaceAll('_', ' ');
  return words[0].toUpperCase() + words.slice(1);
};

function switchOf(bucket, isOn) {
  const button = element('button', { type: 'button', className: 'switch', id: `switch-${bucket}` });
  button.setAttribute('role', 'switch');
  button.setAttribute('aria-labelledby', `name-${bucket}`);
  button.setAttribute('aria-describedby', `counts-${bucket}`);
  const show = (on) => {
    button.setAttribute('aria-checked', String(on));
    button.textContent = on ? 'On' : 'Off';
  };
  show(isOn);
  button.addEventListener('click', safely('switched', async () => {
    const on = button.getAttribute('aria-checked') !== 'true';
    const answer = expectOk(await ask(account, 'PUT', `/demo/buckets/${bucket}`, { on }));
    show(answer.on);
    $('switched').textContent = `${title(bucket)}: ${answer.on ? 'cached again.' : 'every request is forwarded now.'}`;
  }));
  return element(
    'li',
    {},
    element('div', {},
      element('span', { className: 'name', id: `name-${bucket}`, text: title(bucket) }),
      element('span', { className: 'about', id: `counts-${bucket}` })),
    button,
  );
}

function showBuckets(buckets) {
  for (const [name, bucket] of Object.entries(buckets)) {
    const bypass = Object.values(bucket.bypassed).reduce((a, b) => a + b, 0);
    const { hits: hit, misses: miss, coalesced: collapsed } = bucket;
    const counts = Object.entries({ hit, miss, collapsed, bypass }).filter(([, number]) => number > 0);
    const shown = $(`counts-${name}`);
    if (shown) shown.textContent = counts.map(([kind, number]) => `${count(number)} ${kind}`).join(' · ') || 'not read yet';
  }
}

// ===== Start =====

const start = safely('said', async () => {
  wirePortal();
  wireBurst();
  const response = await fetch('/demo', { cache: 'no-store' });
  const { accounts, buckets } = await response.json();
  fill('account', accounts.map((name) => element('option', { value: name, text: name })));
  fill('switches', Object.entries(buckets).map(([bucket, isOn]) => switchOf(bucket, isOn)));
  wireCharts();
  await pickAccount();
});

start();
