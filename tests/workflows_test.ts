/** Workflows of the repository: what runs there is pinned and may only read. */
import assert from "node:assert/strict";

const FOLDER = new URL("../.github/workflows/", import.meta.url);

for (const { name } of Deno.readDirSync(FOLDER)) {
  Deno.test(`${name} pins its actions by hash and may only read, but for jobs that say what they write`, async () => {
    const text = await Deno.readTextFile(new URL(name, FOLDER));
    const used = [...text.matchAll(/uses: (\S+)(.*)/g)];
    assert.ok(used.length > 0);
    for (const [line, action, version] of used) {
      assert.match(action!, /@[0-9a-f]{40}$/, line);
      assert.match(version!, /^ # v\d+\.\d+\.\d+$/, line);
    }
    assert.match(text, /^permissions:\n {2}contents: read$/m);
    assert.doesNotMatch(text, /write-all|pull_request_target/);
  });
}
