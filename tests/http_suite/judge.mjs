// Counts the suite's results, and compares the required behaviours that are missing with those that are
// left out deliberately: judge.mjs SUITE RESULTS DELIBERATE
import { existsSync, readFileSync } from 'node:fs'

const [suite, results, deliberate] = process.argv.slice(2)
// The npm package is an older edition of another layout.
const isPackage = !existsSync(`${suite}/test-engine`)
const { determineTestResult } = await import(
  isPackage ? `${suite}/lib/display.mjs` : `${suite}/test-engine/lib/results.mjs`)
const { default: groups } = await import(`${suite}/tests/index.mjs`)
if (isPackage) groups.push((await import(`${suite}/tests/surrogate-control.mjs`)).default)

const had = JSON.parse(readFileSync(results, 'utf8'))
const reasons = new Map()
let atLeast
for (const line of readFileSync(deliberate, 'utf8').split('\n')) {
  const [, id, reason] = line.match(/^([^#\s]\S*)\s+(.+)$/) ?? []
  if (id === 'optimal') atLeast = Number(reason)
  else if (id) reasons.set(id, reason)
}

const counts = {}
const missing = new Map()
for (const test of groups.flatMap(group => group.tests)) {
  const kind = test.kind ?? 'required'
  const symbol = determineTestResult(groups, test.id, had, true)[2]
  counts[`${kind} ${symbol}`] = (counts[`${kind} ${symbol}`] ?? 0) + 1
  // Failed, or its setup did; what is not for a shared cache or depends on another is neither.
  if (kind === 'required' && ['⛔️', '🔹', '↻', '⁉️'].includes(symbol)) missing.set(test.id, test.name)
}

for (const [name, count] of Object.entries(counts).sort()) console.log(`${name}  ${count}`)
const unknown = [...missing].filter(([id]) => !reasons.has(id))
const outdated = [...reasons.keys()].filter(id => !missing.has(id))
const optimal = counts['optimal ✅'] ?? 0
for (const [id, name] of unknown) console.log(`missing: ${id}: ${name}`)
for (const id of outdated) console.log(`had, but said to be left out: ${id}`)
if (!(optimal >= atLeast)) console.log(`only ${optimal} of at least ${atLeast} optimal behaviours are had`)
console.log(`${missing.size} required behaviours are left out deliberately, ${unknown.length} are missing`)
const isRight = unknown.length + outdated.length === 0 && optimal >= atLeast && counts['required ✅'] > 0
process.exit(isRight ? 0 : 1)
