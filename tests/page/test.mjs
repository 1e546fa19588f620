// Clicks through everything the page offers, by mouse in light and by keyboard in dark, and checks
// what is seen, what is not (console, failed or foreign requests), width, contrast and motion.

import assert from 'node:assert/strict';
import process from 'node:process';

import { launch, open, url } from './browser.mjs';
import { contrastFaults, inkOf } from './looks.mjs';

const WIDE = { width: 1360, height: 900 };
const ACCOUNTS = 300;
const CHARTS = ['latency', 'ratio', 'calls', 'quota'];

let checks = 0;

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    throw new Error(`${name}: ${error.message}`, { cause: error });
  }
  checks += 1;
  console.log(`  ok  ${name}`);
}

const metrics = async () => (await fetch(`${url}/metrics`)).json();
const calls = async () => (await metrics()).crm.calls;

/// The page's parts, found as assistive technology finds them: by role and name.
function parts(page) {
  return {
    account: page.getByRole('combobox', { name: 'Account' }),
    again: page.getByRole('button', { name: 'Read again' }),
    cases: page.getByRole('list', { name: 'Cases' }).getByRole('button'),
    messages: page.getByRole('list', { name: 'Messages' }).getByRole('listitem'),
    text: page.getByRole('textbox', { name: 'Your comment' }),
    comment: page.getByRole('button', { name: 'Send comment' }),
    send: page.getByRole('button', { name: 'Send 200 cold requests' }),
    list: page.getByRole('switch', { name: 'Case list' }),
    pause: page.getByRole('button', { name: /charts$/ }),
    log: page.getByRole('list', { name: /^The last requests/ }).getByRole('listitem'),
    said: page.locator('#said[role=status]'),
    burst: page.locator('#burst[role=status]'),
    switched: page.locator('#switched[role=status]'),
  };
}

async function says(status, text) {
  try {
    await status.filter({ hasText: text }).waitFor();
  } catch {
    assert.fail(`it says \`${await status.innerText()}\`, not ${text}`);
  }
}

const logged = async (entry) => ({
  outcome: await entry.locator('.badge').innerText(),
  ms: parseFloat(await entry.locator('.ms').innerText()),
  field: await entry.locator('code').innerText(),
});

function expectNoFaults(faults) {
  assert.deepEqual(faults, [], 'the browser noted something');
}

async function files() {
  const kinds = {
    '/': 'text/html',
    '/page/style.css': 'text/css',
    '/page/portal.js': 'text/javascript',
    '/page/uplot.js': 'text/javascript',
    '/page/icon.svg': 'image/svg+xml',
  };
  for (const [path, kind] of Object.entries(kinds)) {
    const { status, headers } = await fetch(url + path);
    assert.equal(status, 200, path);
    assert.ok(headers.get('content-type').startsWith(kind), path);
    assert.ok(headers.get('cache-control'), path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', path);
    const policy = headers.get('content-security-policy');
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|http|data:|\*/);
  }
}

async function byMouse(browser) {
  const { page, faults, context } = await open(browser, { viewport: WIDE, colorScheme: 'light' });
  const part = parts(page);

  await step('the first account’s cases are there, read by a miss', async () => {
    await says(part.said, 'Cases of A1: miss');
    assert.ok((await part.cases.count()) >= 2);
    assert.equal(await part.account.locator('option').count(), ACCOUNTS);
  });
  await step('a case shows its messages', async () => {
    await part.cases.first().click();
    await says(part.said, 'Messages of C1: miss');
    assert.ok((await part.messages.count()) >= 1);
    assert.equal(await part.cases.first().getAttribute('aria-current'), 'true');
  });
  await step('reading again is a hit, and faster', async () => {
    const miss = await logged(part.log.first());
    await part.again.click();
    await says(part.said, /Cases of A1: hit.*Messages of C1: hit/);
    const hit = await logged(part.log.first());
    assert.deepEqual([miss.outcome, hit.outcome], ['miss', 'hit']);
    assert.match(miss.field, /;fwd=uri-miss;fwd-status=200;stored$/);
    assert.match(hit.field, /;hit;ttl=\d+$/);
    assert.ok(hit.ms > 0 && hit.ms < miss.ms, `hit ${hit.ms} ms, miss ${miss.ms} ms`);
  });
  await step('another account has other cases', async () => {
    const before = await part.cases.allInnerTexts();
    await part.account.selectOption('A2');
    await says(part.said, 'Cases of A2: miss');
    assert.notDeepEqual(await part.cases.allInnerTexts(), before);
    assert.equal(await part.messages.count(), 0);
    assert.equal(await part.text.count(), 0, 'no comment without a case');
  });
  await step('an answer that is overtaken by another choice is not shown', async () => {
    let release;
    const held = new Promise((resolve) => { release = resolve; });
    await page.route('**/accounts/A8/cases', async (route) => { await held; await route.continue(); });
    await part.account.selectOption('A8');
    await part.account.selectOption('A2');
    await says(part.said, 'Cases of A2: hit');
    const before = await part.cases.allInnerTexts();
    const late = page.waitForResponse('**/accounts/A8/cases');
    release();
    await (await late).finished();
    await page.waitForTimeout(100);
    await says(part.said, 'Cases of A2: hit');
    assert.deepEqual(await part.cases.allInnerTexts(), before);
    await page.unroute('**/accounts/A8/cases');
  });
  await step('a comment is there at once, in the messages and in the list', async () => {
    await part.cases.first().click();
    await part.text.waitFor();
    await says(part.said, 'Messages of');
    const before = await part.messages.count();
    await part.text.fill('Seen by everybody <b>now</b>?');
    await part.comment.click();
    await says(part.said, 'Your comment is there');
    assert.equal(await part.messages.count(), before + 1);
    assert.match(await part.messages.last().innerText(), /You \(A2\)\s+Seen by everybody <b>now<\/b>\?/);
    assert.match(await part.cases.first().innerText(), new RegExp(`${before + 1} messages`));
    assert.match(await part.said.innerText(), /Messages of C\d+: miss.*Cases of A2: miss/);
    assert.equal(await part.text.inputValue(), '');
  });
  await step('200 cold requests are one call', async () => {
    const before = await calls();
    await part.send.click();
    await says(part.burst, '1 call to the CRM for 200 requests. 199 shared an answer, 200 succeeded');
    assert.equal((await calls()) - before, 1);
    assert.equal(await page.locator('#dots .miss').count(), 1);
    assert.equal(await page.locator('#dots .collapsed').count(), 199);
    const [shared, led] = await part.log.allInnerTexts();
    assert.match(shared, /^collapsed\s[^]*199 × GET \/accounts\/A2\/cases\s[^]*;collapsed;ttl=\d+$/);
    assert.match(led, /^miss\s[^]*GET \/accounts\/A2\/cases\s[^]*;stored$/);
  });
  await step('what the burst stored answers the next read', async () => {
    await part.again.click();
    await says(part.said, 'Cases of A2: hit');
  });
  await step('every chart has data, in ink and in words', async () => {
    await page.waitForTimeout(2500);
    for (const chart of CHARTS) {
      const ink = await page.evaluate(inkOf, chart);
      assert.ok(ink > 60, `chart ${chart} has ${ink} coloured pixels`);
    }
    const { crm } = await metrics();
    assert.match(await page.locator('#latency-value').innerText(), /^[\d.]+ ms hit\s+\d+ ms miss$/);
    assert.match(await page.locator('#ratio-value').innerText(), /^\d+(\.\d)? %$/);
    assert.equal(await page.locator('#calls-value .miss').innerText(), `${crm.calls} made`);
    assert.match(await page.locator('#calls-value .hit').innerText(), /^2\d\d saved$/);
    assert.equal(await page.locator('#quota-value').innerText(), crm.left.toLocaleString('en'));
  });
  await step('a bucket switched off is bypassed, and the other is not', async () => {
    await part.cases.first().click();
    await says(part.said, 'Messages of');
    await part.list.click();
    await says(part.switched, 'Case list: every request is forwarded now.');
    assert.equal(await part.list.getAttribute('aria-checked'), 'false');
    assert.equal(await part.list.innerText(), 'Off');
    await part.again.click();
    await says(part.said, /Cases of A2: bypass.*Messages of C\d+: hit/);
    const before = await calls();
    await part.send.click();
    await says(part.burst, '200 calls to the CRM for 200 requests. 0 shared an answer, 200 succeeded');
    assert.equal((await calls()) - before, 200);
    assert.equal(await page.locator('#dots .bypass').count(), 200);
  });
  await step('a page that is loaded again knows the switch; on, it caches again', async () => {
    await page.reload();
    await says(part.said, 'Cases of A1: bypass');
    assert.equal(await part.list.getAttribute('aria-checked'), 'false');
    await part.list.click();
    await says(part.switched, 'Case list: cached again.');
    await part.again.click();
    await says(part.said, /Cases of A1: (miss|hit)/);
    await part.again.click();
    await says(part.said, 'Cases of A1: hit');
  });
  await step('the charts pause and resume', async () => {
    await part.pause.click();
    const before = await page.locator('#ratio-note').innerText();
    await part.again.click();
    await page.waitForTimeout(1500);
    assert.equal(await page.locator('#ratio-note').innerText(), before);
    await part.pause.click();
    await page.waitForFunction((old) => document.getElementById('ratio-note').textContent !== old, before);
  });
  await step('light has contrast', async () => {
    assert.deepEqual(await page.evaluate(contrastFaults), []);
  });
  await step('nothing was noted with the mouse', () => expectNoFaults(faults));
  await context.close();
}

async function byKeyboard(browser) {
  const { page, faults, context } = await open(browser, { viewport: WIDE, colorScheme: 'dark' });
  const part = parts(page);
  const focused = () => page.evaluate(() => {
    const { activeElement: it } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(it);
    const name = it.id || it.dataset.case || it.textContent.trim();
    return { name, isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
  });
  const tabTo = async (name) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press('Tab');
      const { name: reached, isSeen } = await focused();
      assert.ok(isSeen, `the focus on ${reached} is not seen`);
      if (reached === name) return;
    }
    assert.fail(`Tab does not reach ${name}`);
  };

  await step('dark is dark and has contrast', async () => {
    await says(part.said, 'Cases of A1');
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.ok(background.match(/\d+/g).every((channel) => Number(channel) < 64), background);
    assert.deepEqual(await page.evaluate(contrastFaults), []);
  });
  await step('Tab goes through everything in reading order', async () => {
    const order = [];
    for (let presses = 0; presses < 30; presses += 1) {
      await page.keyboard.press('Tab');
      const { name, isSeen } = await focused();
      if (name === order[0]) break;
      assert.ok(isSeen, `the focus on ${name} is not seen`);
      order.push(name);
      if (name === 'switch-messages') break;
    }
    const cases = await part.cases.evaluateAll((all) => all.map((one) => one.dataset.case));
    assert.deepEqual(order, [
      'Skip to the portal', 'account', 'again', ...cases, 'pause', 'The charts as a table',
      'send', 'switch-case_list', 'switch-messages',
    ]);
  });
  await step('an account is picked, a case opened and commented with keys', async () => {
    await page.reload();
    await says(part.said, 'Cases of A1');
    await tabTo('account');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await says(part.said, 'Cases of A3');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await says(part.said, 'Messages of');
    await tabTo('text');
    await page.keyboard.type('Written without a mouse.');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await says(part.said, 'Your comment is there');
    assert.match(await part.messages.last().innerText(), /Written without a mouse\./);
    assert.equal((await focused()).name, 'Send comment', 'the focus stays');
  });
  await step('the charts’ table opens, and agrees with the counts', async () => {
    await tabTo('The charts as a table');
    await page.keyboard.press('Enter');
    const row = page.getByRole('row', { name: /^CRM calls made/ });
    await row.waitFor();
    await page.waitForTimeout(1500);
    assert.equal(await row.getByRole('cell').innerText(), (await calls()).toLocaleString('en'));
    assert.deepEqual(await page.evaluate(contrastFaults), []);
  });
  await step('the burst is sent and a bucket switched with keys', async () => {
    await tabTo('send');
    await page.keyboard.press('Space');
    await says(part.burst, '1 call to the CRM for 200 requests');
    await tabTo('switch-case_list');
    await page.keyboard.press('Space');
    await says(part.switched, 'every request is forwarded now');
    assert.equal((await focused()).name, 'switch-case_list', 'the focus stays');
    await page.keyboard.press('Enter');
    await says(part.switched, 'cached again');
  });
  await step('the charts follow the colour scheme', async () => {
    await page.emulateMedia({ colorScheme: 'light' });
    await page.waitForTimeout(1200);
    for (const chart of CHARTS) {
      assert.ok((await page.evaluate(inkOf, chart)) > 60, `chart ${chart} keeps its dark colours`);
    }
  });
  await step('nothing was noted with the keyboard', () => expectNoFaults(faults));
  await context.close();
}

async function narrow(browser) {
  const { page, faults, context } = await open(browser, {
    viewport: { width: 360, height: 740 },
    reducedMotion: 'reduce',
  });
  const part = parts(page);
  await step('at 360 px nothing is cut off or scrolls sideways', async () => {
    await says(part.said, 'Cases of A1');
    await part.cases.first().click();
    await says(part.said, 'Messages of');
    await part.send.click();
    await says(part.burst, '1 call to the CRM');
    const wide = await page.evaluate(() => [...document.querySelectorAll('body *')]
      .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5 && !one.closest('.plot, .skip'))
      .map((one) => `${one.tagName} ${one.id || one.className}`));
    assert.deepEqual(wide, []);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  });
  await step('reduced motion is respected', async () => {
    const moving = await page.evaluate(() => [...document.querySelectorAll('body *')]
      .filter((one) => ['', '::before', '::after'].some((pseudo) => {
        const { transitionDuration, animationName } = getComputedStyle(one, pseudo || null);
        return transitionDuration !== '0s' || animationName !== 'none';
      }))
      .map((one) => one.id || one.className));
    assert.deepEqual(moving, []);
  });
  await step('nothing was noted on the narrow page', () => expectNoFaults(faults));
  await step('a portal that does not answer is told', async () => {
    const lost = page.getByRole('alert').filter({ hasText: 'The portal does not answer' });
    await context.setOffline(true);
    await lost.waitFor();
    await part.again.click();
    await says(part.said, 'The portal does not answer');
    await context.setOffline(false);
    await lost.waitFor({ state: 'hidden' });
  });
  await context.close();
}

export async function test() {
  const began = Date.now();
  const browser = await launch();
  try {
    await step('each file has its type and a strict policy', files);
    await byMouse(browser);
    await byKeyboard(browser);
    await narrow(browser);
  } catch (error) {
    console.error(`page.sh: ${error.message}`);
    process.exitCode = 1;
    return;
  } finally {
    await browser.close();
  }
  console.log(`page.sh: passed; ${checks} checks in ${((Date.now() - began) / 1000).toFixed(0)} s`);
}
