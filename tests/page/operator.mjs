// Clicks and types through the operator's page, in light and in dark, and checks what is seen and what is
// not. With PAGE_PICTURES it writes a picture of each into that folder.

import assert from 'node:assert/strict';
import process from 'node:process';

import { launch, open, url } from './browser.mjs';
import { contrastFaults } from './looks.mjs';

const AT = `${url}/cache/page`;
const WIDE = { width: 1280, height: 900 };

/// The page's parts, found as assistive technology finds them: by role and name.
function parts(page) {
  return {
    row: page.getByRole('row', { name: /^case_list/ }),
    choice: page.getByRole('combobox', { name: 'Switch of case_list' }),
    empty: page.getByRole('button', { name: 'Invalidate case_list' }),
    status: page.locator('#status'),
    outcomes: page.locator('#outcomes tr'),
    path: page.getByRole('textbox', { name: 'Path' }),
    fields: page.getByRole('textbox', { name: 'Fields' }),
    explain: page.getByRole('button', { name: 'Explain' }),
    explanation: page.locator('#explanation'),
    name: page.getByRole('textbox', { name: 'Name' }),
    invalidate: page.getByRole('button', { name: 'Invalidate', exact: true }),
    routes: page.locator('#routes tr'),
    ratio: page.getByRole('img', { name: /^Hit ratio/ }),
  };
}

const readCases = () =>
  fetch(`${url}/accounts/A1/cases`, { headers: { authorization: 'Bearer demo-A1' } }).then((response) => response.text());

async function through(page, at) {
  for (let time = 0; time < 5; time += 1) await readCases();
  await at.status.filter({ hasText: 'Live' }).waitFor();
  await at.row.waitFor();
  assert.ok((await at.routes.count()) >= 2, 'the routes are listed');
  await at.outcomes.filter({ hasText: 'hit' }).first().waitFor();
  await at.ratio.waitFor();
  await page.locator('#ratio-now', { hasText: '%' }).waitFor();

  await at.path.fill('/accounts/A1/cases');
  await at.fields.fill('authorization: Bearer demo-A1');
  await at.explain.click();
  await at.explanation.filter({ hasText: 'hit:' }).waitFor();
  await at.explanation.filter({ hasText: 'changed by' }).waitFor();

  await at.choice.selectOption('shadow');
  await at.status.filter({ hasText: 'case_list is switched: shadow' }).waitFor();
  await readCases();
  await at.row.filter({ hasText: 'hit 1' }).waitFor();
  await at.choice.selectOption('on');
  await at.status.filter({ hasText: 'case_list is switched: on' }).waitFor();

  await at.name.fill('support:cases:A1');
  await at.invalidate.click();
  await at.status.filter({ hasText: 'key support:cases:A1 is invalidated' }).waitFor();
  await at.explain.click();
  await at.explanation.filter({ hasText: 'miss: uri-miss' }).waitFor();
  await at.empty.click();
  await at.status.filter({ hasText: 'case_list is invalidated' }).waitFor();
}

/// The same by the keyboard alone.
async function byKeyboard(page, at) {
  await at.path.focus();
  await page.keyboard.press('Control+A');
  await page.keyboard.type('/nowhere');
  await page.keyboard.press('Enter');
  await at.explanation.filter({ hasText: 'pass: no rule matches' }).waitFor();
  await at.choice.focus();
  assert.equal(await at.choice.evaluate((choice) => document.activeElement === choice), true);
  const outline = await at.choice.evaluate((choice) => getComputedStyle(choice).outlineStyle);
  assert.notEqual(outline, 'none', 'the focus is seen');
  // Its row is kept by later states, and the focus with it.
  await page.waitForTimeout(2500);
  assert.equal(await at.choice.evaluate((choice) => document.activeElement === choice), true);
}

export async function testOperator() {
  const browser = await launch();
  try {
    for (const colorScheme of ['light', 'dark']) {
      const { context, page, faults } = await open(browser, { colorScheme, viewport: WIDE });
      await page.goto(AT);
      const at = parts(page);
      await through(page, at);
      await byKeyboard(page, at);
      assert.deepEqual(await page.evaluate(contrastFaults), [], `contrast in ${colorScheme}`);
      const folder = process.env.PAGE_PICTURES;
      if (folder) await page.screenshot({ path: `${folder}/operator-${colorScheme}.png`, fullPage: true });
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${width} px: ${over} px too wide`);
      }
      assert.deepEqual(faults, [], `faults in ${colorScheme}`);
      await context.close();
      console.log(`  ok  the operator's page in ${colorScheme}`);
    }
  } finally {
    await browser.close();
  }
}
