// What tests/page.sh runs: both tests, with `--operator` the one of the operator's page, or with `--screenshot FILE [WIDTH [light|dark]]` a picture.

import process from 'node:process';

const [option, ...rest] = process.argv.slice(2);
if (option === '--operator') {
  const { testOperator } = await import('./operator.mjs');
  await testOperator();
} else if (option === '--screenshot') {
  const { screenshot } = await import('./screenshot.mjs');
  await screenshot(...rest);
} else {
  const { test } = await import('./test.mjs');
  await test();
  const { testOperator } = await import('./operator.mjs');
  await testOperator();
}
