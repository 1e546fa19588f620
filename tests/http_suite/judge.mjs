// Counts the suite's results, and compares the required behaviours that are not had with those that are
// left out deliberately: judge.mjs SUITE RESULTS DELIBERATE
import { readFileSync } from 'node:fs'

const [suite, results, deliberate] = process.argv.slice(2)
const { determineTestResult } = await import(`${suite}/lib/display.mjs`)
const { default: groups } = await import(`${suite}/tests/index.mjs`)
const { default: surrogate } = await import(`${suite}/tests/surrogate-control.mjs`)
groups.push(surrogate)

const had = JSON.parse(readFileSync(results, 'utf8'))
const reasons = new Map()
for (const line of readFileSync(deliberate, 'utf8').split('\n')) {
  const [, id, reason] = line.match(/^([^#\s]\S*)\s+(.+)$/) ?? []
  if (id) reasons.set(id, reason)
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
for (const [id, name] of unknown) console.log(`not had: ${id}: ${name}`)
for (const id of outdated) console.log(`had, but said to be left out: ${id}`)
console.log(`${missing.size} required behaviours are left out deliberately, ${unknown.length} are missing`)
process.exit(unknown.length + outdated.length > 0 || counts['required ✅'] === undefined ? 1 : 0)
