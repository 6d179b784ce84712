/**
 * `lakh rm`: removes models from the hub's cache.
 *
 * @module
 */
import { hubCacheFolder } from "../runtime/load/hub_cache.ts";
import { cachedModels } from "./cached_models.ts";
import { command, EXIT, suggest, UsageError } from "./command.ts";
import { formatBytes } from "./format.ts";
import { modelSource } from "./model_source.ts";
import { writeError } from "./terminal.ts";

export default command({
  name: "rm",
  summary: "Removes models from the hub's cache, with all their revisions, for Python's libraries too.",
  words: "NAME…",
  options: {},
  examples: [["lakh rm org/name", "lakh list has the names"]],

  async run(_values, words) {
    if (words.length === 0) throw new UsageError("Cannot remove: there is no name: lakh list has them");
    const models = await cachedModels();
    // All names are looked at before anything is removed.
    const found = words.map((word) => {
      const model = models.find(({ name }) => name === modelSource(word));
      if (model) return model;
      const near = suggest(word, models.map(({ name }) => name));
      throw new Error(
        `Cannot remove "${word}": it is not in ${hubCacheFolder()}: ${
          near ? `did you mean ${near}?` : "lakh list has the names"
        }`,
      );
    });
    for (const { name, bytes, folder } of new Set(found)) {
      await Deno.remove(folder, { recursive: true });
      writeError(`Removed ${name} (${formatBytes(bytes)})\n`);
    }
    return EXIT.ok;
  },
});
