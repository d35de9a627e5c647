// Runs GitHub's own clients against the service whose addresses are in the environment, as a runner sets it for actions.
// Usage: node client.mjs <what>. Says nothing when all is well; the tests read the exit code.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs/promises'
import path from 'node:path'

const work = process.env.GITHUB_WORKSPACE
const MB = 1024 * 1024

async function file(name, bytes) {
  const target = path.join(work, name)
  await fs.mkdir(path.dirname(target), { recursive: true })
  await fs.writeFile(target, bytes)
  return target
}

async function artifactClient() {
  const { DefaultArtifactClient } = await import('@actions/artifact')
  return new DefaultArtifactClient()
}

// Uploads, finds, downloads and compares.
async function roundTrip(client, name, bytes, options = {}) {
  const source = await file(`up/${name}/${name}.bin`, bytes)
  const up = await client.uploadArtifact(name, [source], path.dirname(source), { compressionLevel: 0, ...options })
  assert.ok(up.id > 0, `id of ${name}`)
  const known = options.skipArchive ? `${name}.bin` : name
  const { artifact } = await client.getArtifact(known)
  assert.equal(artifact.id, up.id)
  assert.equal(artifact.size, up.size)
  assert.equal(artifact.digest, `sha256:${up.digest}`)
  const down = await client.downloadArtifact(up.id, { path: path.join(work, 'down', name), expectedHash: artifact.digest })
  assert.ok(!down.digestMismatch, `digest of ${name}`)
  const got = await fs.readFile(path.join(down.downloadPath, `${name}.bin`))
  assert.ok(got.equals(bytes), `content of ${name}: ${got.length} bytes, not ${bytes.length}`)
  return up.id
}

const verbs = {
  async artifacts() {
    const client = await artifactClient()
    await roundTrip(client, 'empty', Buffer.alloc(0))
    await roundTrip(client, 'one', Buffer.from([7]))
    await roundTrip(client, 'raw', crypto.randomBytes(1000), { skipArchive: true })
    await roundTrip(client, 'raw-empty', Buffer.alloc(0), { skipArchive: true })
    await roundTrip(client, 'large', crypto.randomBytes(100 * MB))
    await Promise.all([1, 2, 3, 4, 5].map(i => roundTrip(client, `together-${i}`, crypto.randomBytes(9 * MB + i))))
    const names = (await client.listArtifacts()).artifacts.map(known => known.name)
    assert.deepEqual(names.slice(-5), ['large', 'raw-empty.bin', 'raw.bin', 'one', 'empty'], 'newest first')
    assert.equal(names.length, 10)
    await assert.rejects(roundTrip(client, 'one', Buffer.from([8])), /already|409/i, 'a name is used once')
    await client.deleteArtifact('one')
    await assert.rejects(client.getArtifact('one'))
    await roundTrip(client, 'one', Buffer.from([9]), { retentionDays: 1 })
  },

  // Another job of the same run.
  async 'artifact-of-the-run'() {
    const client = await artifactClient()
    const { artifact } = await client.getArtifact('large')
    assert.ok(artifact.size > 100 * MB)
  },

  async 'no-artifact'() {
    const client = await artifactClient()
    assert.deepEqual((await client.listArtifacts()).artifacts, [], 'another run has its own')
  },

  async 'slow-artifact'() {
    const client = await artifactClient()
    await roundTrip(client, 'slow', crypto.randomBytes(100 * MB))
  },

  async 'save-caches'() {
    const cache = await import('@actions/cache')
    const directory = path.join(work, 'deps')
    await file('deps/a.txt', 'one')
    await file('deps/b.bin', crypto.randomBytes(3 * MB))
    assert.ok((await cache.saveCache(['deps'], 'linux-deps-aaa')) >= 0)
    await file('deps/a.txt', 'two')
    assert.ok((await cache.saveCache(['deps'], 'linux-deps-bbb')) >= 0)
    assert.equal(await cache.saveCache(['deps'], 'linux-deps-bbb'), -1, 'a key is used once')
    await fs.rm(directory, { recursive: true })
  },

  async 'restore-caches'() {
    const cache = await import('@actions/cache')
    const text = () => fs.readFile(path.join(work, 'deps/a.txt'), 'utf8')
    assert.equal(await cache.restoreCache(['deps'], 'linux-deps-aaa'), 'linux-deps-aaa')
    assert.equal(await text(), 'one')
    assert.equal(await cache.restoreCache(['deps'], 'linux-deps-ccc', ['windows-', 'linux-']), 'linux-deps-bbb', 'the newest')
    assert.equal(await text(), 'two')
    assert.equal(await cache.restoreCache(['deps'], 'mac', ['windows-']), undefined)
    assert.equal(await cache.restoreCache(['other'], 'linux-deps-aaa'), undefined, 'other paths are another version')
  },

  async 'no-caches'() {
    const cache = await import('@actions/cache')
    assert.equal(await cache.restoreCache(['deps'], 'linux-deps-aaa', ['linux-']), undefined)
  },

  // What the worker does with Azure's SDK for .NET (`ResultsHttpClient.cs`), with the SDK that the artifact client brings.
  async 'step-logs'() {
    const { AppendBlobClient, BlockBlobClient } = await import('@azure/storage-blob')
    const conditions = { ifNoneMatch: '*' }
    const blobHTTPHeaders = { blobContentType: 'text/plain' }
    const long = new AppendBlobClient(process.env.LONG_LOG)
    await long.create({ conditions, blobHTTPHeaders })
    for (const block of ['one\n'.repeat(MB / 2), 'two\n']) await long.appendBlock(block, block.length)
    await long.seal()
    await new BlockBlobClient(process.env.SHORT_LOG).upload('three\n', 6, { conditions, blobHTTPHeaders })
  },

  async token() {
    const core = await import('@actions/core')
    const text = await core.getIDToken('sts.example')
    const [head, body, signature] = text.split('.')
    const read = part => JSON.parse(Buffer.from(part, 'base64url'))
    const claims = read(body)
    const found = await (await fetch(`${claims.iss}/.well-known/openid-configuration`)).json()
    assert.equal(found.issuer, claims.iss)
    const { keys } = await (await fetch(found.jwks_uri)).json()
    const key = crypto.createPublicKey({ key: keys.find(key => key.kid === read(head).kid), format: 'jwk' })
    assert.equal(read(head).alg, 'RS256')
    assert.ok(crypto.verify('sha256', `${head}.${body}`, key, Buffer.from(signature, 'base64url')), 'signature')
    assert.equal(claims.aud, 'sts.example')
    assert.equal(claims.sub, `repo:${process.env.GITHUB_REPOSITORY}:ref:${process.env.GITHUB_REF}`)
    assert.equal(claims.repository, process.env.GITHUB_REPOSITORY)
    const other = text.slice(0, -8) + 'AAAAAAAA'
    assert.ok(!crypto.verify('sha256', `${head}.${body}`, key, Buffer.from(other.split('.')[2], 'base64url')))
  },
}

process.chdir(work)
await verbs[process.argv[2]]()
