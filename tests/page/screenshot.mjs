// Uses the page as a visitor would, and writes a picture of it.

import { launch, open } from './browser.mjs';

const STEP_MS = 1100;

export async function screenshot(file, width = '1360', colorScheme = 'light') {
  const browser = await launch();
  const { page } = await open(browser, {
    colorScheme,
    viewport: { width: Number(width), height: 900 },
    deviceScaleFactor: 1,
  });
  const pause = (steps = 1) => page.waitForTimeout(steps * STEP_MS);
  const isRead = (text) => page.locator('#said', { hasText: text }).waitFor();
  const again = async (times) => {
    for (let time = 0; time < times; time += 1) {
      await page.locator('#again').click();
      await pause(0.3);
    }
  };
  await isRead('Cases of A1');
  await page.locator('#cases button').nth(1).click();
  await isRead('Messages of');
  await again(4);
  await pause(2);
  for (const account of ['A7', 'A12', 'A3']) {
    await page.locator('#account').selectOption(account);
    await isRead(`Cases of ${account}`);
    await page.locator('#cases button').first().click();
    await isRead('Messages of');
    await again(2);
    await pause();
  }
  await page.locator('#text').fill('Thank you, the new version works.');
  await page.locator('#comment button').click();
  await isRead('Your comment is there');
  await pause();
  await page.locator('#send').click();
  await page.locator('#burst strong').waitFor();
  await pause();
  await again(1);
  await pause(4);
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path: file, fullPage: true });
  await browser.close();
  console.log(`page.sh: wrote ${file}`);
}
