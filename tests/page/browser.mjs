// Starts the system's Chromium and opens the page, noting everything that should not happen.

import { createRequire } from 'node:module';
import process from 'node:process';

const { PAGE_URL, PAGE_MODULES, PAGE_CHROMIUM } = process.env;
const { chromium } = createRequire(`${PAGE_MODULES}/`)('playwright-core');

export const url = PAGE_URL;

export async function launch() {
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath: PAGE_CHROMIUM,
    args: [
      ...(isRoot ? ['--no-sandbox'] : []),
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/// Opens the page in a context of its own. `faults` fills with what went wrong unseen.
export async function open(browser, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(8000);
  const page = await context.newPage();
  const faults = [];
  const loads = new Map();
  let load = 0;
  page.on('console', (message) => faults.push(`console ${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`error: ${error}`));
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText;
    // Whoever leaves a page breaks off what it was asking for.
    if (why === 'net::ERR_ABORTED' && loads.get(request) < load) return;
    faults.push(`failed: ${request.url()} ${why}`);
  });
  page.on('request', (request) => {
    if (request.isNavigationRequest()) load += 1;
    loads.set(request, load);
    if (!request.url().startsWith(`${url}/`)) faults.push(`asked elsewhere: ${request.url()}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) faults.push(`${response.status()}: ${response.url()}`);
  });
  await page.goto(`${url}/`);
  return { context, page, faults };
}
