// Requests to the portal as the demo customer of an account, each timed and told to listeners.

const listeners = [];

/// Calls `listener` with each request that ends.
export function onRequest(listener) {
  listeners.push(listener);
}

/// Sends a request and resolves to what came of it; rejects only where nothing answered.
export async function ask(account, method, path, body) {
  const headers = { authorization: `Bearer demo-${account}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  // The browser keeps a limited number of timings.
  performance.clearResourceTimings();
  const began = performance.now();
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    // The browser's own cache would hide the one that is shown.
    cache: 'no-store',
  });
  const text = await response.text();
  const ended = performance.now();
  const cacheStatus = response.headers.get('cache-status');
  const answer = {
    method,
    path,
    ok: response.ok,
    status: response.status,
    body: response.ok ? JSON.parse(text) : text.trim(),
    ms: duration(path, began) ?? ended - began,
    cacheStatus,
    outcome: outcomeOf(cacheStatus),
  };
  for (const listener of listeners) listener(answer);
  return answer;
}

/// Returns what the browser's network side measured, which the page's own work does not delay.
function duration(path, began) {
  const url = new URL(path, location.href).href;
  const timing = performance.getEntriesByName(url, 'resource').find((entry) => entry.startTime >= began);
  return timing?.responseEnd > 0 && timing.requestStart > 0 ? timing.responseEnd - timing.requestStart : null;
}

/// Reads an outcome off a `Cache-Status` field (RFC 9211), or null where there is none.
export function outcomeOf(cacheStatus) {
  if (!cacheStatus) return null;
  const parameters = cacheStatus.split(';').map((parameter) => parameter.trim());
  if (parameters.includes('hit')) return 'hit';
  if (parameters.includes('collapsed')) return 'collapsed';
  if (parameters.includes('fwd=bypass')) return 'bypass';
  if (parameters.includes('fwd=method')) return 'write';
  return 'miss';
}

export function milliseconds(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
