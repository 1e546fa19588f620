// What tests/page.sh runs: the test, or with `--screenshot FILE [WIDTH [light|dark]]` a picture.

import process from 'node:process';

const [option, ...rest] = process.argv.slice(2);
if (option === '--screenshot') {
  const { screenshot } = await import('./screenshot.mjs');
  await screenshot(...rest);
} else {
  const { test } = await import('./test.mjs');
  await test();
}
